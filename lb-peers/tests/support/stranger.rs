//! Whoever reaches the peers' port: says what it likes, byte by byte, over HTTP/2 that is its own.
use super::PATIENCE;
use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use lb_core::config::KeyKind;
use lb_peers::wire::{Frame, Hello, PROTOCOL, Schema};
use std::net::SocketAddr;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A stream to a node, and the connection beneath.
pub(crate) struct Stranger {
    pub(crate) to: SendStream<Bytes>,
    pub(crate) from: RecvStream,
    pub(crate) connection: JoinHandle<Result<(), h2::Error>>,
    /// Kept: when it goes, the connection does.
    _requests: SendRequest<Bytes>,
    read: BytesMut,
}

/// A message with the head that gRPC wants.
pub(crate) fn message(bytes: &[u8]) -> Bytes {
    let mut message = announced(bytes.len() as u32);
    message.put_slice(bytes);
    message.freeze()
}

/// The head of a message of so many bytes.
pub(crate) fn announced(bytes: u32) -> BytesMut {
    let mut head = BytesMut::new();
    head.put_u8(0);
    head.put_u32(bytes);
    head
}

/// A greeting that is welcome: a peer `name` with the table `sessions`, which it calls 9.
pub(crate) fn hello(name: &str) -> Hello {
    Hello {
        protocol: PROTOCOL,
        min_protocol: 1,
        cluster: "shop".into(),
        node: name.into(),
        incarnation: 5,
        listen: "127.0.0.1:9".into(),
        wall_ms: super::now().0,
        pulled: true,
        tables: vec![Schema { id: 9, name: "sessions".into(), kind: Some(KeyKind::String), len: 64 }],
        release: "0.1.0".into(),
    }
}

impl Stranger {
    /// Opens a stream; `window`: how much the node may send before this side reads.
    pub(crate) async fn open(addr: SocketAddr, window: u32) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        let builder = h2::client::Builder::new().initial_window_size(window).handshake(stream);
        let (mut requests, connection) = builder.await.unwrap();
        let connection = tokio::spawn(connection);
        let request = http::Request::post("http://peer.lb/lb.peers.v1.Peers/Sync")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let (response, to) = requests.send_request(request, false).unwrap();
        let from = response.await.unwrap().into_body();
        Self { to, from, connection, _requests: requests, read: BytesMut::new() }
    }

    /// Opens a stream, and greets as `name`.
    pub(crate) async fn greeting(addr: SocketAddr, name: &str) -> Self {
        let mut stranger = Self::open(addr, 1 << 20).await;
        stranger.say(Frame::Hello(hello(name))).await;
        stranger
    }

    /// Sends bytes at the speed of the other side. False: it wants no more.
    pub(crate) async fn send(&mut self, mut bytes: Bytes) -> bool {
        while !bytes.is_empty() {
            self.to.reserve_capacity(bytes.len());
            let room = std::future::poll_fn(|cx| self.to.poll_capacity(cx));
            let Some(Ok(room)) = timeout(PATIENCE, room).await.expect("it takes them or says no") else { return false };
            if self.to.send_data(bytes.split_to(room.min(bytes.len())), false).is_err() {
                return false;
            }
        }
        true
    }

    pub(crate) async fn say(&mut self, frame: Frame) -> bool {
        self.send(message(&frame.to_bytes())).await
    }

    /// The next frame; `None`: the stream has ended.
    pub(crate) async fn hear(&mut self) -> Option<Frame> {
        loop {
            let head = self.read.get(1..5).map(|n| u32::from_be_bytes(n.try_into().unwrap()) as usize);
            if let Some(length) = head
                && self.read.len() >= 5 + length
            {
                let whole = self.read.split_to(5 + length);
                return Some(Frame::from_bytes(&whole[5..]).unwrap());
            }
            let part = timeout(PATIENCE, self.from.data()).await.expect("it says something, or ends")?.ok()?;
            self.from.flow_control().release_capacity(part.len()).ok()?;
            self.read.extend_from_slice(&part);
        }
    }

    /// Waits for a frame that is looked for; others are passed over.
    pub(crate) async fn hears<T>(&mut self, what: impl Fn(Frame) -> Option<T>) -> Option<T> {
        while let Some(frame) = self.hear().await {
            if let Some(found) = what(frame) {
                return Some(found);
            }
        }
        None
    }

    /// Waits until the node has closed the connection; what it said at last.
    pub(crate) async fn loses_its_connection(mut self) -> Vec<Frame> {
        let mut said = Vec::new();
        while let Some(frame) = self.hear().await {
            said.push(frame);
        }
        let _ = timeout(PATIENCE, self.connection).await.expect("the connection is closed");
        said
    }
}
