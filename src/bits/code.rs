//! HRESULTs and error contexts (MC-BUP 2.2.1.2).

/// An error code as BITS clients know it. H1 makes this one table: name, number, sentence, advice.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Hresult(pub u32);

/// Who found the error.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ErrorContext {
    /// `0x5`: the server.
    RemoteFile,
    /// `0x7`: the server application.
    RemoteApplication,
}
