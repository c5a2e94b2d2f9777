//! What the protocol demands, statement by statement: `docs/spec/requirements.toml` lists them, and each test here names the ones
//! that it covers. What needs no connection is tested without one: the head of a packet goes to the clerk of the front desk,
//! its Ack comes back. The rest goes over sockets, through the HTTP engine.

mod application;
mod close_cancel;
mod create;
mod download;
mod fragment;
mod fragment_lost;
mod fragment_refused;
mod gamut;
mod general;
#[path = "../support/http.rs"]
#[allow(dead_code, reason = "shared: other tests need the other half")]
mod http;
mod lifetime;
mod ping;
mod support;
mod wire;
