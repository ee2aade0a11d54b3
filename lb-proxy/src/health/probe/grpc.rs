//! `grpc.health.v1.Health/Check`, over HTTP/2.
use super::{Failed, Stream, Target};
use hyper_util::rt::TokioIo;
use std::io;
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// Asks for a service; the empty one is the whole server.
pub(super) async fn ask(service: &str, target: &Target, stream: Stream) -> Result<(), Failed> {
    let endpoint = Endpoint::from_shared(format!("http://{}", target.host()))
        .map_err(|e| Failed::Local(format!("the check cannot be sent: {e}")))?;
    let mut stream = Some(TokioIo::new(stream));
    let connect = move |_| {
        // One connection for one question.
        let stream = stream.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected));
        async move { stream }
    };
    let broken = |why: &dyn std::fmt::Display| Failed::Server(format!("no gRPC answer: {why}"));
    let channel = endpoint.connect_with_connector(tower::service_fn(connect)).await.map_err(|e| broken(&e))?;
    let answer = HealthClient::new(channel).check(HealthCheckRequest { service: service.to_owned() }).await;
    let status = match answer {
        Ok(answer) => answer.into_inner().status(),
        Err(e) if e.code() == Code::NotFound => {
            return Err(Failed::Server(format!("it knows no gRPC service {service:?}")));
        }
        Err(e) if e.code() == Code::Unimplemented => {
            return Err(Failed::Server("it does not implement grpc.health.v1.Health".into()));
        }
        Err(e) => return Err(broken(&format!("{:?} {}", e.code(), e.message()))),
    };
    match status {
        ServingStatus::Serving => Ok(()),
        other => Err(Failed::Server(format!("it says {}", other.as_str_name()))),
    }
}
