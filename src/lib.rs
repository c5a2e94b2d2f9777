//! A gateway that speaks Microsoft's BITS upload protocol to Windows machines and keeps what they send in object storage.
// A panic is never an answer: errors are values, also where they "cannot happen". Tests may.
#![warn(clippy::unwrap_used)]
// What looks public and is not misleads the reader.
#![warn(unreachable_pub)]

pub mod admin;
pub mod app;
pub mod auth;
pub mod bits;
pub mod budget;
pub mod cleanup;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod download;
pub mod gateway;
pub mod metrics;
pub mod notify;
pub mod session;
pub mod staging;
pub mod store;
pub mod telemetry;
pub mod units;
pub mod upload;
