//! The floor: carries out what `session` decides.
