//! The values that labels may have: all of them.

use crate::bits::{ErrorContext, Hresult, PacketKind};

/// Defines an enum whose variants are the values of a label.
macro_rules! label {
    ($(#[doc = $about:literal])* $name:ident { $( $(#[doc = $doc:literal])* $variant:ident => $word:literal ),+ $(,)? }) => {
        $(#[doc = $about])*
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum $name {
            $( $(#[doc = $doc])* $variant, )+
        }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The value of the label.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $( Self::$variant => $word, )+
                }
            }
        }
    };
}

label! {
    /// Why a connection was closed before its first request was served.
    Rejection {
        /// There are as many as `limits.connections` allows.
        Limit => "limit",
        /// No head came in time.
        HeaderTimeout => "header_timeout",
        /// What came is not HTTP.
        Malformed => "malformed",
    }
}

label! {
    /// How a packet was answered.
    PacketOutcome {
        /// 2xx.
        Ok => "ok",
        /// 4xx.
        ClientError => "client_error",
        /// 5xx.
        ServerError => "server_error",
        /// Not at all: the client went away.
        Aborted => "aborted",
    }
}

impl PacketOutcome {
    /// The outcome of a packet that was answered with `status`.
    pub const fn of(status: u16) -> Self {
        match status {
            0..400 => Self::Ok,
            400..500 => Self::ClientError,
            _ => Self::ServerError,
        }
    }
}

label! {
    /// How a session ended.
    SessionEnd {
        /// Published, then closed.
        Completed => "completed",
        /// Cancelled, or closed before its last byte.
        Cancelled => "cancelled",
        /// Silent for longer than the session time-out.
        Expired => "expired",
        /// Given up because the store or somebody else took away what it stands on.
        Lost => "lost",
    }
}

label! {
    /// What became of a body that had to wait for memory.
    MemoryWait {
        /// It got what it asked for.
        Granted => "granted",
        /// It waited for `limits.memory_wait` in vain.
        Exhausted => "exhausted",
        /// Its client went away meanwhile.
        Abandoned => "abandoned",
    }
}

label! {
    /// What came of telling a server application of a finished upload.
    Notified {
        /// It took the file.
        Accepted => "accepted",
        /// It answered another status than 2xx.
        Refused => "refused",
        /// It did not answer in time.
        TimedOut => "timed_out",
        /// It can't be reached, or broke off.
        Unreachable => "unreachable",
        /// Its answer can't be used.
        Malformed => "malformed",
    }
}

label! {
    /// Why an endpoint did not take an event.
    EventFailure {
        /// It answered another status than 2xx.
        Refused => "refused",
        /// It did not answer in time.
        TimedOut => "timed_out",
        /// It can't be reached, or broke off.
        Unreachable => "unreachable",
    }
}

label! {
    /// What a store was asked to do.
    StoreOperation {
        /// Write an object, conditionally or not.
        Put => "put",
        /// Read an object or a part of it.
        Get => "get",
        /// Look what an object is.
        Head => "head",
        /// List objects, per page.
        List => "list",
        /// Delete objects.
        Delete => "delete",
        /// Begin a multipart upload.
        BeginMultipart => "begin_multipart",
        /// Store a part.
        PutPart => "put_part",
        /// Store a part that is a copy of another object.
        CopyPart => "copy_part",
        /// Publish the parts.
        CompleteMultipart => "complete_multipart",
        /// Forget the parts.
        AbortMultipart => "abort_multipart",
        /// List unfinished multipart uploads.
        ListMultipart => "list_multipart",
    }
}

label! {
    /// How a store answered.
    StoreOutcome {
        /// It did what it was asked.
        Ok => "ok",
        /// There is no such object, or no such upload.
        NotFound => "not_found",
        /// A condition does not hold.
        Conflict => "conflict",
        /// Credentials or permissions.
        Denied => "denied",
        /// No space.
        Full => "full",
        /// Time-outs, lost connections, 5xx, throttling.
        Unavailable => "unavailable",
        /// Anything else.
        Failed => "failed",
    }
}

label! {
    /// How a download was answered.
    DownloadOutcome {
        /// The whole file, or its head.
        Whole => "whole",
        /// One or more ranges.
        Partial => "partial",
        /// The client has it already: 304.
        NotModified => "not_modified",
        /// There is no such file.
        NotFound => "not_found",
        /// Another 4xx: conditions and ranges that don't hold, invalid names.
        ClientError => "client_error",
        /// 5xx.
        ServerError => "server_error",
        /// The client went away before the end.
        Aborted => "aborted",
    }
}

impl DownloadOutcome {
    /// The outcome of a request that was answered with `status`, in full.
    pub const fn of(status: u16) -> Self {
        match status {
            206 => Self::Partial,
            0..300 => Self::Whole,
            300..400 => Self::NotModified,
            404 => Self::NotFound,
            400..500 => Self::ClientError,
            _ => Self::ServerError,
        }
    }
}

label! {
    /// How a sweep ended.
    CleanupOutcome {
        /// Everything was looked at.
        Swept => "swept",
        /// The sweep came to its end, but some sessions could not be dealt with.
        Incomplete => "incomplete",
        /// Another replica swept in this interval.
        Skipped => "skipped",
        /// The store was in the way.
        Failed => "failed",
    }
}

/// The values of `packet`.
pub(super) const PACKETS: [&str; 6] = [
    packet(PacketKind::Ping),
    packet(PacketKind::CreateSession),
    packet(PacketKind::Fragment),
    packet(PacketKind::CloseSession),
    packet(PacketKind::CancelSession),
    packet(PacketKind::Other),
];

pub(super) const fn packet(kind: PacketKind) -> &'static str {
    match kind {
        PacketKind::Ping => "ping",
        PacketKind::CreateSession => "create_session",
        PacketKind::Fragment => "fragment",
        PacketKind::CloseSession => "close_session",
        PacketKind::CancelSession => "cancel_session",
        PacketKind::Other => "other",
    }
}

/// The values of `hresult`: the codes of the server itself (MC-BUP 2.2.1.2), and one word for all others.
pub(super) const HRESULTS: [&str; 6] = [
    "0x8020001F",
    "0x80070005",
    "0x80070057",
    "0x80200020",
    "0x80070070",
    "other",
];

pub(super) const fn hresult(code: Hresult) -> &'static str {
    match code.0 {
        0x8020_001F => "0x8020001F",
        0x8007_0005 => "0x80070005",
        0x8007_0057 => "0x80070057",
        0x8020_0020 => "0x80200020",
        0x8007_0070 => "0x80070070",
        _ => "other",
    }
}

/// The values of `context`.
pub(super) const CONTEXTS: [&str; 2] = [
    context(ErrorContext::RemoteFile),
    context(ErrorContext::RemoteApplication),
];

pub(super) const fn context(context: ErrorContext) -> &'static str {
    match context {
        ErrorContext::RemoteFile => "server",
        ErrorContext::RemoteApplication => "application",
    }
}
