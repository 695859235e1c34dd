//! The engine as a whole, without a server: a simulated database drives it through its public interface.

mod audit;
mod away;
mod beginning;
mod catalog;
mod coalescing;
mod depth;
mod failing;
mod holdings;
mod identity;
mod simulation;
mod talk;
mod torn;
mod unkept;
mod world;
