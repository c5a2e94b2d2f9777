//! What the front desk does with connections: framing, keeping alive, patience, crowds, and leaving. Raw sockets throughout:
//! a client library would repair what is to be tested.

mod conversation;
mod crowd;
mod framing;
mod leaving;
mod patience;
mod process;
mod rooms;
mod support;
mod upstreams;
