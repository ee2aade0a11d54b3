//! Exactly what was typed.
use clap::{Args, Parser, Subcommand};
use lb_core::pace::Pace;
use std::path::PathBuf;
use std::time::Duration;

/// A clustered load balancer for stateful services: a client keeps its server, whatever happens to the balancers.
#[derive(Debug, Parser)]
#[command(name = "lb", version, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Lb {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run an instance
    Run {
        #[command(flatten)]
        file: File,
    },
    /// A whole cluster on this machine: 2 instances, 3 servers, clients that come back
    Demo {
        /// End by itself after this long and print a summary, as 20s
        #[arg(long = "for", value_name = "TIME", value_parser = duration)]
        length: Option<Duration>,
        /// Kill one instance midway and restart it; exit 1 if a client lost its server
        #[arg(long)]
        kill: bool,
        /// Number of sample clients
        #[arg(long, value_name = "N", default_value_t = 24)]
        clients: usize,
        /// The summary as JSON
        #[arg(long)]
        json: bool,
    },
    /// Check a configuration: every error at once
    Check {
        #[command(flatten)]
        file: File,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the hash of a password, for `[auth.NAME]`; the password is asked for, or is the first line of standard input
    HashPassword {
        /// What it costs to check it: each step doubles the time
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(4..=14))]
        cost: u32,
    },
    /// Print the JSON Schema of the configuration, for editors
    Schema,
    /// This instance and its cluster on one screen
    Status {
        #[command(flatten)]
        at: At,
    },
    /// Replication: a row for each peer
    #[command(args_conflicts_with_subcommands = true)]
    Peers {
        #[command(subcommand)]
        command: Option<Peers>,
        #[command(flatten)]
        at: At,
    },
    /// Look into stick tables and change them
    Table {
        #[command(subcommand)]
        command: Table,
    },
    /// List servers, drain them, take them out and back
    Server {
        #[command(subcommand)]
        command: Server,
    },
    /// Read the configuration anew: all of it or nothing
    Reload {
        #[command(flatten)]
        at: At,
    },
    /// Stop: not ready at once, then what is open gets time to end
    Stop {
        /// How long, as 30s; default: instance.drain
        #[arg(long, value_name = "TIME", value_parser = duration)]
        drain: Option<Duration>,
        /// Come back when it has ended
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        at: At,
    },
    /// Certificates for peers: a private CA, and one for each instance
    Cert {
        #[command(subcommand)]
        command: Cert,
    },
    /// Completions for a shell, on standard output
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// The manual page, on standard output
    Man,
}

/// Which configuration.
#[derive(Debug, Args)]
pub(crate) struct File {
    /// Configuration file [default: lb.toml here, else /etc/lb/lb.toml]
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Name of this instance, over the file's
    #[arg(long, value_name = "NODE")]
    pub(crate) name: Option<String>,
}

/// Which running instance, and how its answer is shown.
#[derive(Debug, Args)]
pub(crate) struct At {
    /// Admin socket of the instance [default: LB_SOCKET of the environment]
    #[arg(long, value_name = "PATH", conflicts_with_all = ["admin", "config"])]
    pub(crate) socket: Option<PathBuf>,
    /// Admin address of the instance, as http://127.0.0.1:8404 [default: LB_ADMIN of the environment]
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    pub(crate) admin: Option<String>,
    /// Token for changes over an address
    #[arg(long, value_name = "TOKEN", env = "LB_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Configuration that names the socket or address
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Name of the instance, where the configuration does not say
    #[arg(long, value_name = "NODE")]
    pub(crate) name: Option<String>,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Peers {
    /// Compare every table with every peer now: exit 1 and the keys, where they differ
    Verify {
        /// Only this table
        #[arg(long, value_name = "TABLE")]
        table: Option<String>,
        #[command(flatten)]
        at: At,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Table {
    /// All tables
    List {
        #[command(flatten)]
        at: At,
    },
    /// Entries of a table
    Show {
        /// Table
        table: String,
        /// Only this key
        #[arg(long)]
        key: Option<String>,
        /// Only pins to this server
        #[arg(long)]
        server: Option<String>,
        /// Only keys whose counters are so, as "http_req_rate > 10 and conn_cur > 0"
        #[arg(long)]
        when: Option<String>,
        /// How many at most
        #[arg(long, default_value_t = 100)]
        limit: usize,
        #[command(flatten)]
        at: At,
    },
    /// One entry
    Get {
        /// Table
        table: String,
        /// Key
        key: String,
        #[command(flatten)]
        at: At,
    },
    /// Pin a key to a server, on every instance
    Set {
        /// Table
        table: String,
        /// Key
        key: String,
        /// Server
        server: String,
        #[command(flatten)]
        at: At,
    },
    /// Remove pins, on every instance
    Clear {
        /// Table
        table: String,
        #[command(flatten)]
        what: Cleared,
        #[command(flatten)]
        at: At,
    },
    /// Keys that a peer holds differently, side by side: exit 1, if there are any
    Diff {
        /// Table [default: all]
        table: Option<String>,
        /// Only with this peer
        #[arg(long, value_name = "PEER")]
        with: Option<String>,
        #[command(flatten)]
        at: At,
    },
    /// All entries, one JSON object a line
    Dump {
        /// Table
        table: String,
        #[command(flatten)]
        at: At,
    },
    /// Pin what a dump holds, read from standard input
    Load {
        /// Table
        table: String,
        #[command(flatten)]
        at: At,
    },
}

/// Which pins go.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Cleared {
    /// The pin of this key
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// All pins to this server
    #[arg(long)]
    pub(crate) server: Option<String>,
    /// All
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Server {
    /// All servers, or those of one backend
    List {
        /// Only of this backend
        backend: Option<String>,
        #[command(flatten)]
        at: At,
    },
    /// Only pinned clients still go there; with a deadline nobody stays after it
    Drain {
        /// When it is over, sockets that are still open are closed, and pinned clients go elsewhere; as 300s
        #[arg(long, value_name = "TIME", value_parser = duration)]
        deadline: Option<Duration>,
        /// How fast they are closed then, all instances together, as 50/s [default: instance.close_pace]
        #[arg(long, value_name = "N/s", requires = "deadline")]
        pace: Option<Pace>,
        /// Wait until nothing is open on it, on any instance
        #[arg(long)]
        wait: bool,
        /// Give up waiting after this long, as 300s
        #[arg(long, value_name = "TIME", value_parser = duration, requires = "wait")]
        timeout: Option<Duration>,
        #[command(flatten)]
        decision: Decision,
    },
    /// Nobody goes there; open sockets are closed
    Maint {
        /// How fast they are closed, all instances together, as 50/s [default: instance.close_pace]
        #[arg(long, value_name = "N/s")]
        pace: Option<Pace>,
        #[command(flatten)]
        decision: Decision,
    },
    /// Everybody goes there again
    Ready {
        #[command(flatten)]
        decision: Decision,
    },
    /// Its share of new clients, 0 to 256
    Weight {
        #[command(flatten)]
        decision: Decision,
        /// Weight
        #[arg(value_parser = clap::value_parser!(u32).range(0..=256))]
        weight: u32,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Cert {
    /// Make the private CA of a cluster: ca.pem for every instance, ca.key for nobody else
    Init {
        /// Where the files go
        #[arg(long, value_name = "DIR", default_value = "certs")]
        dir: PathBuf,
        /// Cluster, for those who look at the certificate
        #[arg(long, value_name = "NAME", default_value = "lb")]
        cluster: String,
        /// Days until it expires
        #[arg(long, value_name = "N", default_value_t = 3650, value_parser = days())]
        days: u32,
    },
    /// Make or renew the certificate of an instance
    Issue {
        /// Its instance.name
        node: String,
        /// Where ca.pem and ca.key are
        #[arg(long, value_name = "DIR", default_value = "certs")]
        dir: PathBuf,
        /// Where NODE.pem and NODE.key go [default: as --dir]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Days until it expires
        #[arg(long, value_name = "N", default_value_t = 365, value_parser = days())]
        days: u32,
        /// A name or IP address more, for other tools; may be given again
        #[arg(long, value_name = "NAME_OR_IP")]
        also: Vec<String>,
        /// Replace the one that is there: a running instance takes the new one by itself
        #[arg(long)]
        force: bool,
    },
    /// What a certificate says; exit 1 if it does not hold today
    Show {
        /// PEM file
        file: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// A decision on a server, for the whole cluster unless `--local`.
#[derive(Debug, Args)]
pub(crate) struct Decision {
    /// Which, as backend/server
    #[arg(value_name = "BACKEND/SERVER", value_parser = server)]
    pub(crate) server: (String, String),
    /// On this instance only
    #[arg(long)]
    pub(crate) local: bool,
    /// Why, for those who look later
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) at: At,
}

fn days() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=36_500)
}

fn duration(text: &str) -> Result<Duration, lb_core::time::DurationError> {
    lb_core::time::parse_duration(text)
}

fn server(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((backend, server)) if !backend.is_empty() && !server.is_empty() => Ok((backend.into(), server.into())),
        _ => Err("write the backend and the server, as app/node1".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Lb::command().debug_assert();
    }

    #[test]
    fn clearing_a_table_says_what_goes() {
        assert!(Lb::try_parse_from(["lb", "table", "clear", "sessions"]).is_err());
        assert!(Lb::try_parse_from(["lb", "table", "clear", "sessions", "--all", "--key", "x"]).is_err());
        assert!(Lb::try_parse_from(["lb", "table", "clear", "sessions", "--all"]).is_ok());
    }

    #[test]
    fn peers_are_shown_or_verified() {
        assert!(Lb::try_parse_from(["lb", "peers", "--json"]).is_ok());
        assert!(Lb::try_parse_from(["lb", "peers", "verify", "--table", "sessions", "--socket", "x"]).is_ok());
        assert!(Lb::try_parse_from(["lb", "peers", "--json", "verify"]).is_err());
    }

    #[test]
    fn a_server_is_named_with_its_backend() {
        assert!(Lb::try_parse_from(["lb", "server", "drain", "node1"]).is_err());
        assert!(Lb::try_parse_from(["lb", "server", "drain", "app/node1", "--wait", "--timeout", "5m"]).is_ok());
    }
}
