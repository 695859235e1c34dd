//! TypeScript's language server, as editors run it: requests as lines of JSON, answers behind a header with their length.

use crate::npm;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A place in a file, as editors count: from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, with links followed.
    pub file: String,
    /// The line.
    pub line: u64,
    /// The column.
    pub column: u64,
}

/// A running language server.
pub struct TsServer {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    requests: u64,
}

impl TsServer {
    /// Starts one.
    pub fn start() -> TsServer {
        let mut child = Command::new("node")
            .arg(npm::modules().join("typescript/lib/tsserver.js"))
            .arg("--disableAutomaticTypingAcquisition")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node runs");
        let stdin = child.stdin.take().expect("a pipe");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        TsServer { child, stdin, stdout, requests: 0 }
    }

    /// Opens a file, as an editor does before it asks anything of it.
    pub fn open(&mut self, file: &Path) {
        self.send("open", json!({ "file": file }));
    }

    /// Returns where "go to definition" leads from a place.
    pub fn definition(&mut self, file: &Path, line: u64, column: u64) -> Vec<Place> {
        let body = self.ask("definition", json!({ "file": file, "line": line, "offset": column }));
        let places = body.as_array().expect("definitions").iter().map(|place| Place {
            file: place["file"].as_str().expect("a file").to_owned(),
            line: place["start"]["line"].as_u64().expect("a line"),
            column: place["start"]["offset"].as_u64().expect("a column"),
        });
        places.collect()
    }

    /// Returns what an editor shows of a place when the mouse is over it.
    pub fn hover(&mut self, file: &Path, line: u64, column: u64) -> String {
        let body = self.ask("quickinfo", json!({ "file": file, "line": line, "offset": column }));
        body["displayString"].as_str().expect("a text").to_owned()
    }

    fn ask(&mut self, command: &str, arguments: Value) -> Value {
        let sequence = self.send(command, arguments);
        loop {
            let mut message = self.receive();
            if message["type"] == "response" && message["request_seq"] == sequence {
                assert_eq!(message["success"], true, "{command}: {message}");
                return message["body"].take();
            }
        }
    }

    fn send(&mut self, command: &str, arguments: Value) -> u64 {
        self.requests += 1;
        let request = json!({
            "seq": self.requests, "type": "request", "command": command, "arguments": arguments,
        });
        writeln!(self.stdin, "{request}").expect("the server reads");
        self.requests
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

impl Drop for TsServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
