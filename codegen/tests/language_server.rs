//! TypeScript's language servers, as editors run them: that of TypeScript 5 and 6, with its own protocol, and that of 7,
//! which speaks LSP.

use crate::npm::{self, Compiler};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A place in a file, from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: String,
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// A running language server.
pub struct LanguageServer {
    compiler: Compiler,
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    requests: u64,
}

impl LanguageServer {
    /// Starts one for the project in this folder, and opens a file of it, as an editor does before it asks anything.
    pub fn open(compiler: Compiler, project: &Path, file: &Path) -> LanguageServer {
        let mut command = Command::new("node");
        match compiler {
            Compiler::Five => command
                .arg(npm::modules().join("typescript/lib/tsserver.js"))
                .arg("--disableAutomaticTypingAcquisition"),
            Compiler::Seven => {
                command.arg(npm::modules().join("typescript7/bin/tsc")).args(["--lsp", "--stdio"])
            }
        };
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = pipes.spawn().expect(npm::NEEDED);
        let stdin = child.stdin.take().expect("a pipe");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut server = LanguageServer { compiler, child, stdin, stdout, requests: 0 };
        match compiler {
            Compiler::Five => server.send(json!({
                "seq": 0, "type": "request", "command": "open", "arguments": { "file": file },
            })),
            Compiler::Seven => {
                let root = uri(project);
                let folders = json!([{ "uri": root, "name": "project" }]);
                server.ask(
                    "initialize",
                    json!({ "processId": null, "rootUri": root, "capabilities": {}, "workspaceFolders": folders }),
                );
                server.send(json!({ "jsonrpc": "2.0", "method": "initialized", "params": {} }));
                let text = std::fs::read_to_string(file).expect("a text");
                let document = json!({ "uri": uri(file), "languageId": "typescript", "version": 1, "text": text });
                server.send(json!({
                    "jsonrpc": "2.0", "method": "textDocument/didOpen",
                    "params": { "textDocument": document },
                }));
            }
        }
        server
    }

    /// Returns where "go to definition" leads from a place.
    pub fn definitions(&mut self, from: &Place) -> Vec<Place> {
        let answer = match self.compiler {
            Compiler::Five => self.ask("definition", five(from)),
            Compiler::Seven => self.ask("textDocument/definition", seven(from)),
        };
        let number = |value: &Value| value.as_u64().expect("a number") as usize;
        let place = |place: &Value| match self.compiler {
            Compiler::Five => Place {
                file: place["file"].as_str().expect("a file").to_owned(),
                line: number(&place["start"]["line"]) - 1,
                column: number(&place["start"]["offset"]) - 1,
            },
            Compiler::Seven => {
                let uri = place["uri"].as_str().expect("a place");
                let start = &place["range"]["start"];
                Place {
                    file: uri.strip_prefix("file://").expect("a file").to_owned(),
                    line: number(&start["line"]),
                    column: number(&start["character"]),
                }
            }
        };
        match &answer {
            Value::Null => Vec::new(),
            Value::Array(places) => places.iter().map(place).collect(),
            one => vec![place(one)],
        }
    }

    /// Returns what an editor shows of a place when the mouse is over it.
    pub fn hover(&mut self, from: &Place) -> String {
        let answer = match self.compiler {
            Compiler::Five => self.ask("quickinfo", five(from))["displayString"].take(),
            Compiler::Seven => {
                self.ask("textDocument/hover", seven(from))["contents"]["value"].take()
            }
        };
        answer.as_str().expect("a text").to_owned()
    }

    /// Asks, and waits for the answer; what else the server says or asks meanwhile is not of interest.
    fn ask(&mut self, what: &str, arguments: Value) -> Value {
        self.requests += 1;
        let id = self.requests;
        self.send(match self.compiler {
            Compiler::Five => {
                json!({ "seq": id, "type": "request", "command": what, "arguments": arguments })
            }
            Compiler::Seven => {
                json!({ "jsonrpc": "2.0", "id": id, "method": what, "params": arguments })
            }
        });
        loop {
            let mut message = self.receive();
            match self.compiler {
                Compiler::Five if message["type"] == "response" && message["request_seq"] == id => {
                    assert_eq!(message["success"], true, "{what}: {message}");
                    return message["body"].take();
                }
                Compiler::Seven if message["method"].is_string() && !message["id"].is_null() => {
                    let nothing = json!({ "jsonrpc": "2.0", "id": message["id"], "result": null });
                    self.send(nothing);
                }
                Compiler::Seven if message["id"] == id => {
                    assert!(message["error"].is_null(), "{what}: {message}");
                    return message["result"].take();
                }
                _ => {}
            }
        }
    }

    fn send(&mut self, message: Value) {
        let text = message.to_string();
        match self.compiler {
            Compiler::Five => writeln!(self.stdin, "{text}"),
            Compiler::Seven => {
                write!(self.stdin, "Content-Length: {}\r\n\r\n{text}", text.len())
            }
        }
        .expect("the server reads");
    }

    fn receive(&mut self) -> Value {
        let mut length = 0;
        loop {
            let mut line = String::new();
            assert_ne!(self.stdout.read_line(&mut line).expect("a line"), 0, "the server ended");
            match line.trim() {
                "" if length > 0 => break,
                line => {
                    if let Some(number) = line.strip_prefix("Content-Length: ") {
                        length = number.parse().expect("a number");
                    }
                }
            }
        }
        let mut body = vec![0; length];
        self.stdout.read_exact(&mut body).expect("a body");
        serde_json::from_slice(&body).expect("JSON")
    }
}

fn uri(path: &Path) -> String {
    format!("file://{}", path.display())
}

fn five(place: &Place) -> Value {
    json!({ "file": place.file, "line": place.line + 1, "offset": place.column + 1 })
}

fn seven(place: &Place) -> Value {
    json!({
        "textDocument": { "uri": uri(Path::new(&place.file)) },
        "position": { "line": place.line, "character": place.column },
    })
}

impl Drop for LanguageServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
