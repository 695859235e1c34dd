//! A server that says what a test wants it to: bytes that no Postgres would send, in pieces and at times of its own.

use bytes::{BufMut, BytesMut};
use convoy_replication::{ReplicationConfig, ReplicationStream};
use convoy_types::{DatabaseUrl, Host, SslMode};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The server's end of a stream that has begun.
pub struct FakeServer {
    socket: TcpStream,
}

/// What the client says of itself: standby status.
#[derive(Debug, PartialEq, Eq)]
pub struct Status {
    pub received: u64,
    pub flushed: u64,
    pub wants_reply: bool,
}

/// Starts a stream from a fake server, at position 1000.
pub async fn stream(
    configure: impl FnOnce(&mut ReplicationConfig),
) -> (ReplicationStream, FakeServer) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let url: DatabaseUrl = "postgres://fake@localhost/fake".parse().expect("a URL");
    let hosts = vec![Host::Tcp { name: "127.0.0.1".to_owned(), port }];
    let url = DatabaseUrl { hosts, ssl_mode: SslMode::Disable, ..url };
    let mut config = ReplicationConfig::new(url);
    configure(&mut config);
    let (stream, server) = tokio::join!(ReplicationStream::connect(config), accept(&listener));
    (stream.expect("a stream"), FakeServer { socket: server })
}

/// Lets a client in and answers until it starts to stream.
async fn accept(listener: &TcpListener) -> TcpStream {
    let (mut socket, _) = listener.accept().await.expect("a client");
    let len = socket.read_u32().await.expect("a length");
    let mut startup = vec![0; usize::try_from(len).expect("a length") - 4];
    socket.read_exact(&mut startup).await.expect("a start-up message");
    let welcome =
        [message(b'R', &[0; 4]), message(b'K', &[0, 0, 0, 7, 0, 0, 0, 8]), message(b'Z', b"I")];
    socket.write_all(&welcome.concat()).await.expect("a client");
    loop {
        let (_, query) = read_message(&mut socket).await;
        let query = String::from_utf8_lossy(&query).into_owned();
        let row: &[&str] = match &query {
            query if query.starts_with("IDENTIFY_SYSTEM") => &["42", "3"],
            query if query.contains("wal_level") => &["150018", "logical", "f", "1700000000000000"],
            // Around the making of the slot: from which transaction on, and whether one of those altered what is published.
            query if query.contains("pg_snapshot_xmax") => &["700"],
            query if query.starts_with("WITH RECURSIVE") => &["f"],
            query if query.contains("pg_publication") => &[],
            query if query.starts_with("CREATE_REPLICATION_SLOT") => &["slot", "0/3E8"],
            query if query.starts_with("START_REPLICATION") => {
                socket.write_all(&message(b'W', &[0, 0, 0])).await.expect("a client");
                return socket;
            }
            query => panic!("{query}"),
        };
        let rows = if row.is_empty() { Vec::new() } else { message(b'D', &data_row(row)) };
        let answer = [rows, message(b'C', b"OK\0"), message(b'Z', b"I")];
        socket.write_all(&answer.concat()).await.expect("a client");
    }
}

fn data_row(columns: &[&str]) -> BytesMut {
    let mut row = BytesMut::new();
    row.put_u16(u16::try_from(columns.len()).expect("a few columns"));
    for column in columns {
        row.put_u32(u32::try_from(column.len()).expect("a short column"));
        row.put_slice(column.as_bytes());
    }
    row
}

/// Frames a message.
pub fn message(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = u32::try_from(content.len() + 4).expect("a short message");
    [&[tag][..], &len.to_be_bytes(), content].concat()
}

/// Frames a pgoutput message as the walsender does, under these positions in the header.
pub fn data(header_lsn: u64, pgoutput: &[u8]) -> Vec<u8> {
    let lsn = header_lsn.to_be_bytes();
    message(b'd', &[&b"w"[..], &lsn, &lsn, &[0; 8], pgoutput].concat())
}

pub fn keepalive(wal_end: u64, wants_reply: bool) -> Vec<u8> {
    message(b'd', &[&b"k"[..], &wal_end.to_be_bytes(), &[0; 8], &[u8::from(wants_reply)]].concat())
}

pub fn begin(commit_lsn: u64) -> Vec<u8> {
    [&b"B"[..], &commit_lsn.to_be_bytes(), &[0; 8], &[0, 0, 0, 9]].concat()
}

pub fn commit(commit_lsn: u64) -> Vec<u8> {
    [&b"C\0"[..], &commit_lsn.to_be_bytes(), &(commit_lsn + 8).to_be_bytes(), &[0; 8]].concat()
}

async fn read_message(socket: &mut TcpStream) -> (u8, Vec<u8>) {
    let tag = socket.read_u8().await.expect("a message");
    let len = socket.read_u32().await.expect("a length");
    let mut content = vec![0; usize::try_from(len).expect("a length") - 4];
    socket.read_exact(&mut content).await.expect("a whole message");
    (tag, content)
}

impl FakeServer {
    pub async fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.expect("a client");
    }

    /// Sends byte by byte, letting the client read between.
    pub async fn trickle(&mut self, bytes: &[u8]) {
        self.socket.set_nodelay(true).expect("a socket");
        for byte in bytes {
            self.socket.write_all(&[*byte]).await.expect("a client");
            tokio::task::yield_now().await;
        }
    }

    /// Waits for the client's next word.
    pub async fn status(&mut self) -> Status {
        let (tag, content) = read_message(&mut self.socket).await;
        assert_eq!((tag, content[0]), (b'd', b'r'), "no status");
        let number =
            |at: usize| u64::from_be_bytes(content[at..at + 8].try_into().expect("eight bytes"));
        Status { received: number(1), flushed: number(9), wants_reply: content[33] == 1 }
    }

    /// Closes the connection.
    pub async fn hang_up(mut self) {
        let _ = tokio::time::timeout(Duration::from_secs(1), self.socket.shutdown()).await;
    }
}
