//! The knobs of the front desk.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use crate::units::knob::{choices, settings};
use crate::units::{HttpOrigin, Secret};

settings! {
    /// Listeners, threads, and how long the gateway waits for a client.
    pub struct Settings {
        /// Addresses to serve plain HTTP on. The default is reachable from this machine only; "0.0.0.0:8080" means
        /// every interface.
        pub listen: Vec<SocketAddr> = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))],
        /// Address of /livez, /readyz, /startupz, /metrics, and of the sessions. Whoever reaches it learns how busy the gateway is, so
        /// keep it away from the network that the clients come from.
        pub admin_listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 9090)),
        /// Who presents this as a bearer token may list, cancel and sweep sessions at `admin_listen`: 16 characters or more, best given
        /// as { file = "…" } or { env = "…" }. Without it that is possible on loopback only, for whoever uses this machine.
        #[example = "{ file = \"/run/secrets/admin-token\" }"]
        pub admin_token: Option<Secret> = None,
        /// Networks or addresses of the proxies in front, whose X-Forwarded-For and X-Forwarded-Proto are believed: the log, and what an
        /// `upstream` is told, name the client then, and not the proxy. Whoever can connect from there can claim to be anybody.
        #[example = "[\"10.0.0.0/8\", \"192.0.2.1\"]"]
        pub trusted_proxies: Vec<IpNet> = Vec::new(),
        /// Whether connections from `trusted_proxies` begin with the PROXY protocol (version 1 or 2), by which a load balancer that does not speak
        /// HTTP announces its client. One that does not begin so is closed then.
        pub proxy_protocol: bool = false,
        /// How long SIGTERM waits for packets in flight, at most; the process ends as soon as the last one is answered. Stay below
        /// the time after which your supervisor kills (30 s in Kubernetes unless configured).
        pub grace_period: Duration = Duration::from_secs(30),
        /// How long after SIGTERM connections are still taken in, while /readyz says no already: the time that your load balancer
        /// needs to look away. Part of `grace_period`.
        pub drain_delay: Duration = Duration::from_secs(1),
        /// Worker threads; 0 means one for each core.
        pub threads: u32 = 0,
        /// How long a client may take to send the whole head of a request. Longer helps only clients on very poor lines; every slow
        /// head holds a connection.
        pub header_timeout: Duration = Duration::from_secs(15),
        /// How long a connection may rest between two requests. A Windows client opens a new one without complaint, which costs a
        /// round trip.
        pub keepalive_timeout: Duration = Duration::from_secs(75),
        /// How long a body may stall before the connection is given up. Keep it above 120s: a Windows client goes on for two minutes,
        /// and should be the one who gives up first.
        pub read_timeout: Duration = Duration::from_secs(150),
        /// How long a client may refuse to take the next bytes of an answer.
        pub write_timeout: Duration = Duration::from_secs(60),
    }
}

settings! {
    /// How many may come in at once.
    pub struct ConnectionSettings {
        /// Open connections, at most; further ones are closed at once. Each idle one costs about 50 KiB of memory and a file
        /// descriptor: RLIMIT_NOFILE is raised to fit, as far as the system allows.
        pub connections: u32 = 10_000,
    }
}

/// Whether a packet may come as a POST.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MethodOverride {
    /// Never: a POST is a POST.
    Off,
    /// When the request says so.
    On,
    /// The same, and what it creates is answered 201.
    Created,
}

choices!(MethodOverride {
    Off => "off",
    On => "on",
    Created => "created",
});

settings! {
    /// Which requests a route takes, and what else its answers say.
    pub struct RouteSettings {
        /// URL path prefix, in whole segments: "/uploads/" takes /uploads/a/b and not /uploadsb. Where several routes fit, the
        /// longest prefix wins, and one with a `host` wins over one without.
        #[required = "\"/\""]
        pub path: String = String::new(),
        /// Host name that the request must ask for, without port. Without it, every host fits. The route goes by the host and the path
        /// then, as in "uploads.example.com/": in the log, in metrics and events, and in the records of its sessions.
        #[example = "\"uploads.example.com\""]
        pub host: Option<String> = None,
        /// Host name or address, at most 300 characters, that clients are told to send the rest of an upload to (BITS-Host-Id). Only
        /// needed where replicas do not share a store, or with `durability = "part"` and several replicas. The route answers to this
        /// name too.
        #[example = "\"node1.example.com\""]
        pub host_id: Option<String> = None,
        /// After how long without an answer from `host_id` a client goes back to the host it started with. In whole seconds.
        pub host_id_fallback_timeout: Duration = Duration::from_secs(24 * 3_600),
        /// Whether packets may come as a POST with `X-Http-Method-Override: BITS_POST`, from devices whose networks refuse other methods.
        /// "created": as "on", and a new session is answered 201 then, as some of them expect.
        pub method_override: MethodOverride = MethodOverride::Off,
        /// Web server to which requests go that are neither BITS uploads nor downloads of this route. Without it they are refused.
        #[example = "\"https://backend:8443\""]
        pub upstream: Option<HttpOrigin> = None,
        /// Further web servers, which get requests in turn with `upstream`. One that takes no connection is passed over, and asked again every
        /// five seconds.
        #[example = "[\"http://10.0.0.1:8080\", \"http://10.0.0.2:8080\"]"]
        pub upstreams: Vec<HttpOrigin> = Vec::new(),
        /// Path that these servers are asked for every five seconds (GET), to be passed over until they answer 2xx or 3xx. Without it, one is
        /// well when it takes a connection. When none is well, all are tried.
        #[example = "\"/healthz\""]
        pub upstream_health_path: Option<String> = None,
        /// Certificates (PEM) of the authorities that are believed when these servers are https. Without it, those of this machine.
        #[example = "\"/etc/bits-gateway/upstream-ca.pem\""]
        pub upstream_ca_file: Option<String> = None,
    }
}

impl RouteSettings {
    /// What the route goes by: its path, after the host where it is bound to one. Each route has its own.
    pub fn name(&self) -> String {
        self.bound_host().unwrap_or_default() + &self.path
    }

    /// The host that it is bound to, in the one spelling that stands for all of its spellings.
    pub fn bound_host(&self) -> Option<String> {
        let host = self.host.as_deref()?;
        Some(host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase())
    }
}
