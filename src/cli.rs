//! The command line: what it says, and which exit code tells what.

mod check;
mod health;
mod iis;
mod sessions;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::bits::Hresult;
use crate::config::{self, Flags, Loaded, Sources};
use crate::{app, client, clock, telemetry};

/// Exit code of a wrong command line (`EX_USAGE` of sysexits.h).
const USAGE: u8 = 64;

/// Exit code when something that has to be there is not (`EX_UNAVAILABLE`).
const UNAVAILABLE: u8 = 69;

/// Exit code of a wrong configuration (`EX_CONFIG`).
const CONFIG: u8 = 78;

/// Takes uploads from the BITS of Windows and keeps them in object storage.
#[derive(Debug, Parser)]
#[command(
    name = "bits-gateway",
    version,
    after_help = "Exit codes: 0 done, 64 wrong command line, 69 something that has to be there is not, 78 wrong configuration."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve uploads and downloads until SIGTERM or SIGINT
    ///
    /// Without any configuration: 127.0.0.1:8080, files in ./bits-data, admin on 127.0.0.1:9090.
    Serve(Configured),
    /// Say what is wrong with the configuration, without serving
    Check {
        #[command(flatten)]
        configured: Configured,
        /// Also open each store and try what it has to be able to do: racing conditional writes, a multipart upload
        #[arg(long)]
        live: bool,
    },
    /// Print what can be configured, or what is
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Upload a file as Windows does, and go on where the last run of the same command was interrupted
    Upload(client::Arguments),
    /// List, show, cancel and sweep upload sessions
    ///
    /// In the stores themselves, for which no gateway has to run; or, with --admin, as a running gateway sees them, which is the only way
    /// to the sessions in a local directory that it uses.
    #[command(subcommand)]
    Sessions(sessions::SessionsCommand),
    /// Say what an error code means that BITS or a server of it shows
    Explain {
        /// As Windows shows it: 0x80200020, -2145386464, 2149580832
        #[arg(value_name = "CODE", allow_hyphen_values = true)]
        code: Hresult,
    },
    /// Ask a running gateway whether it is ready; exit code 0 when it is, else 69
    Healthcheck {
        #[command(flatten)]
        configured: Configured,
        /// Ask whether it lives (/livez) instead: true while it starts, drains, or has trouble with its store
        #[arg(long)]
        live: bool,
    },
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the version
    Version {
        /// As a JSON object
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Every key with its meaning, default and cost, as a file
    Reference,
    /// What is in force, secrets redacted
    Show {
        #[command(flatten)]
        configured: Configured,
        /// Also say where each value was given
        #[arg(long)]
        origin: bool,
    },
    /// A JSON schema of the file, for editors
    Schema,
    /// Turn the BITS directories of an IIS into routes, and name what has no counterpart
    ImportIis(iis::Arguments),
}

/// Where the configuration comes from. Default < file < environment (BITS_GATEWAY__SECTION__KEY) < these flags.
#[derive(Args, Clone, Debug)]
struct Configured {
    /// The configuration file; without it, the one that the environment variable BITS_GATEWAY_CONFIG names, if any
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Serve plain HTTP on this address; may be given several times
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    listen: Vec<SocketAddr>,
    /// Serve health and metrics on this address
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<SocketAddr>,
    /// Keep the files of the one route here: s3://bucket/prefix, gs://…, az://…, file:///directory, memory:/// or a path
    #[arg(long, value_name = "URL")]
    store: Option<String>,
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => run(cli.command),
        Err(error) => {
            // Printing fails only when nobody reads.
            let _ = error.print();
            if error.use_stderr() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            }
        }
    }
}

fn run(command: Command) -> ExitCode {
    match command {
        Command::Serve(configured) => configured.load().map_or_else(ExitCode::from, |loaded| serve(&loaded)),
        Command::Check { configured, live } => configured
            .load()
            .map_or_else(ExitCode::from, |loaded| check::check(&loaded, live)),
        Command::Config(ConfigCommand::Reference) => out(&config::reference::as_toml()),
        Command::Config(ConfigCommand::Show { configured, origin }) => {
            configured.load().map_or_else(ExitCode::from, |loaded| {
                out(&config::show::as_toml(
                    &loaded.settings,
                    origin.then_some(&loaded.places),
                ))
            })
        }
        Command::Config(ConfigCommand::Schema) => out(&format!("{:#}\n", config::schema::as_json())),
        Command::Config(ConfigCommand::ImportIis(arguments)) => iis::import(arguments),
        Command::Upload(arguments) => block_on(client::command(arguments)),
        Command::Sessions(command) => sessions::run(command),
        Command::Explain { code } => explain(code),
        Command::Healthcheck { configured, live } => configured
            .load()
            .map_or_else(ExitCode::from, |loaded| health::check(&loaded, live)),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "bits-gateway", &mut script);
            out(&String::from_utf8_lossy(&script))
        }
        Command::Version { json } => version(json),
    }
}

impl Configured {
    /// Loads the configuration, or says what is wrong with it; then the exit code.
    fn load(&self) -> Result<Loaded, u8> {
        let sources = self.sources(config::process_environment());
        config::load(&sources).map_err(|problems| {
            say(&format!("{problems}\n"));
            CONFIG
        })
    }

    fn sources(&self, variables: BTreeMap<String, String>) -> Sources {
        let named = variables
            .get(config::FILE_VARIABLE)
            .filter(|file| !file.is_empty())
            .map(PathBuf::from);
        Sources {
            file: self.config.clone().or(named),
            variables,
            flags: Flags {
                listen: self.listen.clone(),
                admin_listen: self.admin_listen,
                store: self.store.clone(),
            },
        }
    }
}

fn serve(loaded: &Loaded) -> ExitCode {
    let log = &loaded.settings.log;
    let _log = match telemetry::start(log.format, &log.level, clock::stamp) {
        Ok(log) => log,
        Err(reason) => {
            say(&format!("cannot log: {reason}\n"));
            return ExitCode::from(UNAVAILABLE);
        }
    };
    tracing::info!(version = telemetry::VERSION, revision = telemetry::REVISION, "starting");
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    app::run(&loaded.settings)
}

fn explain(code: Hresult) -> ExitCode {
    let Some(explanation) = code.explain() else {
        say(&format!("{code} is none of the codes that this program can explain\n"));
        return ExitCode::from(USAGE);
    };
    let lines = [
        format!("{code}  {}", explanation.name),
        explanation.sentence.to_owned(),
        String::new(),
        format!("The client:        {}", explanation.client),
        format!("The administrator: {}", explanation.admin),
    ];
    out(&(lines.join("\n") + "\n"))
}

fn version(json: bool) -> ExitCode {
    let (version, revision) = (telemetry::VERSION, telemetry::REVISION);
    if json {
        out(&format!(
            "{}\n",
            serde_json::json!({ "version": version, "revision": revision })
        ))
    } else {
        out(&format!("bits-gateway {version} ({revision})\n"))
    }
}

/// Runs what needs to wait for the network, on this thread.
fn block_on(work: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => {
            say(&format!("cannot start: {error}\n"));
            ExitCode::from(UNAVAILABLE)
        }
    }
}

/// Prints to standard output. A reader that went away, as `head` does, has what it wanted.
fn out(text: &str) -> ExitCode {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// Prints to standard error.
fn say(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_flag_says_what_it_does() {
        fn helped(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{} {}",
                    command.get_name(),
                    argument.get_id()
                );
            }
            command.get_subcommands().for_each(helped);
        }
        helped(&Cli::command());
    }

    #[test]
    fn the_file_comes_from_the_flag_before_the_variable() {
        let configured = |arguments: &[&str]| {
            let arguments = ["bits-gateway", "serve"].iter().chain(arguments);
            match Cli::try_parse_from(arguments).unwrap().command {
                Command::Serve(configured) => configured,
                other => panic!("{other:?}"),
            }
        };
        let variable = |value: &str| BTreeMap::from([("BITS_GATEWAY_CONFIG".to_owned(), value.to_owned())]);
        let file = |arguments: &[&str], value| configured(arguments).sources(variable(value)).file;
        assert_eq!(file(&["--config", "a.toml"], "b.toml"), Some("a.toml".into()));
        assert_eq!(file(&[], "b.toml"), Some("b.toml".into()));
        assert_eq!(file(&[], ""), None);
    }

    #[test]
    fn listeners_are_given_one_by_one_or_with_commas() {
        let arguments = [
            "bits-gateway",
            "serve",
            "--listen",
            "127.0.0.1:1,127.0.0.1:2",
            "--listen",
            "[::1]:3",
        ];
        let Command::Serve(configured) = Cli::try_parse_from(arguments).unwrap().command else {
            panic!()
        };
        assert_eq!(configured.listen.len(), 3);
    }
}
