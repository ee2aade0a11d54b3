//! What the benchmark needs of the machine: packages, the release build of `lb`, cores, descriptors.
use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the proxy under test runs, alone.
pub(crate) const PROXY_CORE: usize = 0;
/// Where load and backend run.
pub(crate) const LOAD_CORE: usize = 1;

/// Installs what is missing of `(command, Debian package)`.
pub(crate) fn install(needs: &[(&str, &str)]) -> Result<()> {
    packages(needs.iter().filter(|(command, _)| find(command).is_none()).map(|(_, p)| *p).collect())
}

/// Installs a Debian package if a file of it is missing.
pub(crate) fn install_file(path: &str, package: &str) -> Result<()> {
    packages(if Path::new(path).exists() { Vec::new() } else { vec![package] })
}

fn packages(missing: Vec<&str>) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    ensure!(rustix::process::getuid().is_root(), "install these Debian packages first: {}", missing.join(" "));
    eprintln!("installing {}", missing.join(" "));
    let apt = |args: &[&str]| {
        let quiet =
            Command::new("apt-get").args(args).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null()).status();
        quiet.is_ok_and(|s| s.success())
    };
    // A service that Debian starts by itself would take port 80: nothing here needs one running.
    let args = [&["install", "-y", "--no-install-recommends"], &missing[..]].concat();
    if !apt(&args) {
        apt(&["update"]);
        ensure!(apt(&args), "apt-get {} failed", args.join(" "));
    }
    Ok(())
}

/// The path of a command; Debian's daemons are not in everybody's PATH.
pub(crate) fn find(command: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|dir: PathBuf| dir.join(command))
        .find(|p| p.is_file())
}

/// A command that the environment may replace.
pub(crate) fn binary(variable: &str, command: &str) -> Result<PathBuf> {
    match std::env::var_os(variable) {
        Some(path) => Ok(path.into()),
        None => find(command).with_context(|| format!("{command} is not installed")),
    }
}

/// `lb` in release, built now unless `LB` names one.
pub(crate) fn lb() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("LB") {
        return Ok(path.into());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let built =
        Command::new(cargo).current_dir(root).args(["build", "--release", "-p", "lb-cli", "--bin", "lb"]).status();
    ensure!(built.context("cargo runs")?.success(), "lb does not build");
    let here = std::env::current_exe()?;
    Ok(here.parent().context("a directory")?.with_file_name("release").join("lb"))
}

/// Pins the calling thread.
pub(crate) fn pin_this_thread(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).with_context(|| format!("core {core}: two cores are needed"))
}

/// A command that runs on one core only.
pub(crate) fn pinned(core: usize, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.arg("-c").arg(core.to_string()).arg(program);
    command
}

/// Raises the soft limit of descriptors, which the proxies inherit.
pub(crate) fn descriptors(wanted: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|now| now >= wanted) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|most| most < wanted) && !rustix::process::getuid().is_root() {
        bail!("{wanted} open files are needed: raise `ulimit -Hn`");
    }
    let maximum = limit.maximum.map(|most| most.max(wanted));
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).context("raising the limit of open files")
}
