//! `bits-gateway config import-iis`: the BITS directories of an IIS as routes.
//!
//! The BITS server extension keeps its settings as properties of virtual directories in the metabase. IIS 6 stores that as MetaBase.xml,
//! with names. Later versions have no place of their own for them and keep them in applicationHost.config, in `<customMetadata>`, by number;
//! the numbers are named by MBSchema.xml of that server (IIS configuration reference, custom metadata).

mod document;
mod metabase;
mod routes;
mod security;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{CONFIG, out, say};
use crate::units::HttpOrigin;
use document::Wrong;
use routes::Wanted;
use server::Server;

/// What the command line says about it.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Files of IIS, what they say together: applicationHost.config, MBSchema.xml for the names in it, or MetaBase.xml
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Where the files go: every directory gets a folder of its own in this place
    #[arg(long, value_name = "URL", default_value = "file:///srv/bits")]
    store: String,
    /// Leave everything with this server for now, to be taken over directory by directory
    #[arg(long, value_name = "URL")]
    upstream: Option<HttpOrigin>,
}

/// Prints the configuration, or says what is wrong with the files.
pub(super) fn import(arguments: Arguments) -> ExitCode {
    match imported(arguments) {
        Ok(text) => out(&text),
        Err(wrong) => {
            say(&format!("{wrong}\n"));
            ExitCode::from(CONFIG)
        }
    }
}

fn imported(arguments: Arguments) -> Result<String, Wrong> {
    let mut server = Server::default();
    let mut names = Vec::new();
    for path in &arguments.files {
        let (file, text) = document::read(path)?;
        server.add(&file, &text)?;
        let name = path.file_name().unwrap_or(path.as_os_str());
        names.push(name.to_string_lossy().into_owned());
    }
    let wanted = Wanted {
        store: arguments.store,
        upstream: arguments.upstream,
    };
    routes::as_toml(&names, &server, &wanted)
}
