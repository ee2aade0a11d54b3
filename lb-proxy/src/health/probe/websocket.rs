//! A WebSocket from its opening to its close: the handshake with its proof, a ping and its pong, Close 1000.
use super::{Failed, Stream, Target};
use futures_util::{SinkExt, StreamExt};
use http::{HeaderName, HeaderValue, Request};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Error, Message};

const PING: &[u8] = b"lb-check";

/// Opens, pings, closes.
pub(super) async fn ask(
    path: &str,
    headers: &[(String, String)],
    target: &Target,
    stream: Stream,
) -> Result<(), Failed> {
    let request =
        request(path, headers, target).map_err(|why| Failed::Local(format!("the check cannot be sent: {why}")))?;
    // Checks Sec-WebSocket-Accept, Upgrade and Connection.
    let opened = tokio_tungstenite::client_async(request, stream).await;
    let (mut socket, _) = opened.map_err(|e| Failed::Server(refused(e)))?;
    socket.send(Message::Ping(PING.into())).await.map_err(|e| Failed::Server(format!("the WebSocket broke: {e}")))?;
    pong(&mut socket).await?;
    let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    let closed = async {
        socket.close(Some(frame)).await?;
        // Until the server has closed, too: it is not left with half a socket.
        while let Some(message) = socket.next().await {
            message?;
        }
        Ok(())
    };
    match closed.await {
        // A server that hangs up without a word of its own has answered all the same.
        Ok(()) | Err(Error::ConnectionClosed | Error::Io(_) | Error::Protocol(_)) => Ok(()),
        Err(e) => Err(Failed::Server(format!("the WebSocket did not close: {e}"))),
    }
}

fn request(path: &str, headers: &[(String, String)], target: &Target) -> Result<Request<()>, String> {
    let mut request: Request<()> =
        format!("ws://{}{path}", target.host()).into_client_request().map_err(|e| e.to_string())?;
    let fields = request.headers_mut();
    fields.entry(http::header::USER_AGENT).or_insert(HeaderValue::from_static("lb-check"));
    for (name, value) in headers {
        let name = HeaderName::try_from(name).map_err(|e| e.to_string())?;
        fields.insert(name, HeaderValue::from_str(value).map_err(|e| e.to_string())?);
    }
    Ok(request)
}

fn refused(error: Error) -> String {
    match error {
        Error::Http(answer) => format!("answered {}, expected 101", answer.status().as_u16()),
        Error::Protocol(tungstenite::error::ProtocolError::SecWebSocketAcceptKeyMismatch) => {
            "answered 101 with a wrong Sec-WebSocket-Accept".into()
        }
        e => format!("no WebSocket: {e}"),
    }
}

/// Waits for the ping's answer; what else the server has to say is not ours.
async fn pong(socket: &mut WebSocketStream<Stream>) -> Result<(), Failed> {
    loop {
        let why = match socket.next().await {
            Some(Ok(Message::Pong(payload))) if payload == PING => return Ok(()),
            Some(Ok(Message::Close(_))) | None => "the WebSocket was closed before it answered a ping".into(),
            Some(Ok(_)) => continue,
            Some(Err(e)) => format!("the WebSocket broke before it answered a ping: {e}"),
        };
        return Err(Failed::Server(why));
    }
}
