//! Who may change something: everybody on the Unix socket, over TCP those who have the token.
use super::Via;
use super::problem::Failure;
use crate::instance::Control;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use std::hint::black_box;
use std::sync::Arc;

/// Lets a change through, or says why not. The token is that of the configuration that holds now, so that a reload
/// can change it.
pub(super) async fn may_change(
    State((via, control)): State<(Via, Arc<Control>)>,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    let snapshot = control.snapshot();
    allow(via, snapshot.config.admin.token.as_deref(), request.headers())?;
    Ok(next.run(request).await)
}

fn allow(via: Via, token: Option<&str>, headers: &HeaderMap) -> Result<(), Failure> {
    if via == Via::Socket {
        return Ok(());
    }
    let Some(token) = token.filter(|t| !t.is_empty()) else {
        let why = "over TCP this instance can only be read, because it has no admin.token: set one, or use the Unix \
                   socket (admin.socket, `lb --socket PATH`)";
        return Err(Failure::new(StatusCode::FORBIDDEN, why));
    };
    let given = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let given = given.and_then(|v| v.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    match given {
        Some((_, given)) if same(given.trim().as_bytes(), token.as_bytes()) => Ok(()),
        Some(_) => {
            Err(Failure::new(StatusCode::UNAUTHORIZED, "the token is wrong: it must be this instance's admin.token"))
        }
        None => {
            let why =
                "a change needs the admin token: send \"Authorization: Bearer TOKEN\" (`LB_TOKEN` of the command line)";
            Err(Failure::new(StatusCode::UNAUTHORIZED, why))
        }
    }
}

/// Compares in a time that depends on the lengths only.
fn same(a: &[u8], b: &[u8]) -> bool {
    let differences = a.iter().zip(b).fold(0, |sum, (a, b)| black_box(sum | (a ^ b)));
    a.len() == b.len() && differences == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;

    fn verdict(via: Via, token: Option<&str>, sent: Option<&str>) -> u16 {
        let mut headers = HeaderMap::new();
        if let Some(sent) = sent {
            headers.insert(header::AUTHORIZATION, sent.parse().unwrap());
        }
        allow(via, token, &headers).map_or_else(|f| f.into_response().status().as_u16(), |()| 200)
    }

    #[test]
    fn only_the_very_token_opens_tcp_and_the_socket_needs_none() {
        assert_eq!(verdict(Via::Socket, None, None), 200);
        assert_eq!(verdict(Via::Tcp, None, Some("Bearer x")), 403);
        assert_eq!(verdict(Via::Tcp, Some(""), Some("Bearer ")), 403);
        assert_eq!(verdict(Via::Tcp, Some("secret"), Some("Bearer secret")), 200);
        assert_eq!(verdict(Via::Tcp, Some("secret"), Some("bearer secret")), 200);
        for wrong in
            [None, Some("secret"), Some("Bearer secre"), Some("Bearer secrets"), Some("Basic secret"), Some("Bearer")]
        {
            assert_eq!(verdict(Via::Tcp, Some("secret"), wrong), 401, "{wrong:?}");
        }
    }
}
