//! The warehouse: records, parts, tails and objects in a bucket. The only room that names `object_store`.

mod bucket;
mod error;
#[allow(dead_code, unused_imports)]
mod local;

pub use error::{CompleteError, Error};

/// One route's store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {}
