//! The warehouse: records, parts, tails and objects in a bucket. The only room that names `object_store`.
