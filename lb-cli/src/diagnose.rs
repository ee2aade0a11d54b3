//! Reads the configuration file and shows what is wrong with it: with the source around each mistake on a terminal, as
//! `FILE:LINE:COLUMN: error: …` lines elsewhere. What is right and wrong is `lb_core::config`'s to say.
use crate::output::{BAD, styled};
use lb_core::config::{Config, Diagnostic, Fault};
use std::fmt;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The file that is meant: the one given, else `lb.toml` here, else `/etc/lb/lb.toml`.
pub(crate) fn path(given: Option<PathBuf>) -> PathBuf {
    let here = Path::new("lb.toml");
    given.unwrap_or_else(|| if here.exists() { here.into() } else { "/etc/lb/lb.toml".into() })
}

/// Why there is no configuration.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The file could not be read.
    Unread { path: PathBuf, why: String, help: &'static str },
    /// It has mistakes.
    Wrong { path: PathBuf, text: String, found: Vec<Diagnostic> },
}

/// A configuration and the text that it was read from.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) config: Config,
    pub(crate) text: String,
}

/// What keeps a configuration from running, where its keys stand.
pub(crate) fn placed(path: &Path, text: &str, faults: &[Fault]) -> Refused {
    let found = faults.iter().map(|fault| fault.placed(text)).collect();
    Refused::Wrong { path: path.to_owned(), text: text.to_owned(), found }
}

/// Reads a configuration.
pub(crate) fn read(path: &Path, name: Option<&str>) -> Result<Read, Refused> {
    let unread = |why: String, help| Refused::Unread { path: path.to_owned(), why, help };
    let bytes = std::fs::read(path).map_err(|why| {
        let missing = why.kind() == std::io::ErrorKind::NotFound;
        let help = "name the file with -c FILE; without it, lb.toml here is read, else /etc/lb/lb.toml";
        unread(why.to_string(), if missing { help } else { "" })
    })?;
    let text = String::from_utf8(bytes).map_err(|why| {
        let line = why.as_bytes()[..why.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        unread(format!("line {line} is not UTF-8"), "save it as UTF-8")
    })?;
    if path.extension().is_some_and(|ending| ending == "cfg") {
        return Err(unread(
            "HAProxy configurations are not read by this release".into(),
            "write it as TOML; deploy/lb.toml shows every key",
        ));
    }
    let (env, files) = (|var: &str| std::env::var(var).ok(), |path: &Path| std::fs::read(path));
    let loaded = lb_core::config::load_with(&text, &host_name(), name, &env, Some(&files));
    match loaded {
        Ok(config) => Ok(Read { config, text }),
        Err(found) => Err(Refused::Wrong { path: path.to_owned(), text, found }),
    }
}

/// Reads a configuration, or shows on standard error why it cannot be used.
pub(crate) fn load(path: &Path, name: Option<&str>) -> Result<Read, ExitCode> {
    read(path, name).map_err(|refused| {
        refused.show();
        ExitCode::FAILURE
    })
}

/// Reads a configuration for something it says (where the admin listens): its mistakes are an error like any other.
pub(crate) fn load_quietly(path: &Path, name: Option<&str>) -> anyhow::Result<Config> {
    let read = read(path, name).map_err(|refused| anyhow::anyhow!("{}", refused.to_string().trim_end()))?;
    Ok(read.config)
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

impl Refused {
    /// On standard error: drawn for a terminal, else in lines.
    pub(crate) fn show(&self) {
        match self {
            Self::Wrong { path, text, found } if std::io::stderr().is_terminal() => {
                let source = miette::NamedSource::new(path.display().to_string(), text.clone());
                let handler = miette::MietteHandlerOpts::new().context_lines(1).build();
                for mistake in found {
                    anstream::eprintln!(
                        "{}",
                        Drawn { mistake: Mistake { mistake, source: &source }, handler: &handler }
                    );
                }
                let count = count(found.len(), "error");
                anstream::eprintln!("{}", styled(BAD, format_args!("{}: {count}", path.display())));
            }
            refused => anstream::eprint!("{refused}"),
        }
    }
}

/// `1 error`, `2 errors`
pub(crate) fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// In lines, as compilers write them.
impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unread { path, why, help } => {
                writeln!(f, "{}: error: {why}", path.display())?;
                if help.is_empty() { Ok(()) } else { writeln!(f, "  help: {help}") }
            }
            Self::Wrong { path, found, .. } => {
                found.iter().try_for_each(|mistake| writeln!(f, "{}:{mistake}", path.display()))
            }
        }
    }
}

/// A mistake as miette wants it.
#[derive(Debug)]
struct Mistake<'a> {
    mistake: &'a Diagnostic,
    source: &'a miette::NamedSource<String>,
}

impl fmt::Display for Mistake<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.mistake.message)
    }
}

impl std::error::Error for Mistake<'_> {}

impl miette::Diagnostic for Mistake<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        (!self.mistake.help.is_empty()).then(|| Box::new(&self.mistake.help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        Some(self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = miette::LabeledSpan> + '_>> {
        let span = self.mistake.span.clone();
        Some(Box::new(std::iter::once(miette::LabeledSpan::new(None, span.start, span.len()))))
    }
}

struct Drawn<'a> {
    mistake: Mistake<'a>,
    handler: &'a miette::MietteHandler,
}

impl fmt::Display for Drawn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        miette::ReportHandler::debug(self.handler, &self.mistake, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &str, text: &[u8]) -> String {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        let text = read(&path, None).expect_err("refused").to_string();
        text.replace(&format!("{}/", dir.path().display()), "")
    }

    #[test]
    fn mistakes_are_lines_with_file_line_and_column() {
        let text =
            refused("lb.toml", b"[instance]\nworkers = 0\nnmae = \"a\"\n[frontend.web]\nlisten = \"127.0.0.1:1\"\n");
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("lb.toml:2:11: error: "), "{text}");
        assert!(lines[1].starts_with("  help: "), "{text}");
        assert_eq!(lines[2], "lb.toml:3:1: error: unknown key `nmae` in `instance`");
        assert_eq!(lines[3], "  help: did you mean `name`?");
        assert!(lines[4].starts_with("lb.toml:4:11: error: "), "{text}");
    }

    #[test]
    fn a_file_that_is_no_text_or_no_toml_says_so() {
        assert!(refused("lb.toml", b"# \n\xff\n").contains("line 2 is not UTF-8"));
        assert!(refused("haproxy.cfg", b"global\n").contains("HAProxy"));
        let missing = read(Path::new("/nowhere/lb.toml"), None).expect_err("missing").to_string();
        assert!(missing.contains("/nowhere/lb.toml: error: ") && missing.contains("-c FILE"), "{missing}");
    }

    #[test]
    fn a_mistake_is_drawn_with_its_source() {
        let found = lb_core::config::load("[instance]\nworkers = 0\n", "h", None, &|_| None).expect_err("wrong");
        let source = miette::NamedSource::new("lb.toml", "[instance]\nworkers = 0\n".to_owned());
        let handler = miette::MietteHandlerOpts::new().color(false).unicode(true).build();
        let mistake = Mistake { mistake: &found[1], source: &source };
        let drawn = Drawn { mistake, handler: &handler }.to_string();
        assert!(drawn.contains("lb.toml:2:11") && drawn.contains("workers = 0") && drawn.contains("help: "), "{drawn}");
    }
}
