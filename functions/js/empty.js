// Stands for a namespace of a package that nobody asks for (`src/source/graph.rs`).
export {};
