//! demo
/// Options.
pub(crate) struct Options {
    pub(crate) length: Option<std::time::Duration>,
    pub(crate) kill: bool,
    pub(crate) json: bool,
    pub(crate) clients: usize,
}
/// Runs it.
pub(crate) async fn run(_: Options) -> anyhow::Result<std::process::ExitCode> {
    Ok(std::process::ExitCode::FAILURE)
}
