//! What a server sends on a replication connection.

use convoy_replication::fuzzing;

/// A connection's bytes, as they come out of the socket.
pub fn frames(data: &[u8]) {
    fuzzing::receive(data);
}

/// Messages of pgoutput, each after a byte that says how long it is.
pub fn pgoutput(mut data: &[u8]) {
    let mut messages = Vec::new();
    while let Some((&len, rest)) = data.split_first() {
        let (message, rest) = rest.split_at(rest.len().min(usize::from(len)));
        messages.push(message);
        data = rest;
    }
    fuzzing::assemble(&messages);
}
