//! Whole journeys: the real program, real sockets, real stores.

mod application;
mod authority;
mod broken_lines;
mod damaged;
mod events;
mod fronts;
mod hosts;
#[path = "../support/http.rs"]
#[allow(dead_code, reason = "shared: other tests need the other half")]
mod http;
mod idle;
mod log;
mod memory;
mod replicas;
mod resumed;
#[path = "../support/servers.rs"]
#[allow(dead_code, reason = "shared: other tests need the other half")]
mod servers;
mod sessions;
mod storm;
mod struck;
mod support;
mod transcripts;
mod unconditional;
mod unfit;
mod whole;
