//! Numbers that stand in several files and have to agree.

use super::text;

/// What SIGTERM waits for, at most: the default of `server.grace_period`.
const GRACE_PERIOD: u64 = 30;

#[test]
fn whoever_kills_waits_longer_than_the_gateway_takes_to_end() {
    let deployment = text("deploy/kubernetes/deployment.yaml");
    let before = number_after(&deployment, "seconds:");
    let kill = number_after(&deployment, "terminationGracePeriodSeconds:");
    assert!(text("deploy/kubernetes/configmap.yaml").contains(&format!("grace_period = \"{GRACE_PERIOD}s\"")));
    assert!(kill > before + GRACE_PERIOD, "{kill} > {before} + {GRACE_PERIOD}");

    let unit = text("deploy/systemd/bits-gateway.service");
    assert!(number_after(&unit, "TimeoutStopSec=") > GRACE_PERIOD);

    let reference = bits_gateway::config::Settings::default();
    assert_eq!(reference.server.grace_period.as_secs(), GRACE_PERIOD);
}

#[test]
fn the_probes_ask_the_paths_that_the_admin_listener_has() {
    let deployment = text("deploy/kubernetes/deployment.yaml");
    for (probe, path) in [
        ("startupProbe", "/startupz"),
        ("livenessProbe", "/livez"),
        ("readinessProbe", "/readyz"),
    ] {
        let after = deployment.split(&format!("{probe}:")).nth(1).unwrap();
        assert!(
            after.lines().nth(2).unwrap().trim() == format!("path: {path}"),
            "{probe}"
        );
    }
}

#[test]
fn the_limit_of_open_files_fits_the_connections() {
    let connections = u64::from(bits_gateway::config::Settings::default().limits.gateway.connections);
    assert!(number_after(&text("deploy/systemd/bits-gateway.service"), "LimitNOFILE=") > 2 * connections);
}

fn number_after(text: &str, key: &str) -> u64 {
    let after = text
        .split(key)
        .nth(1)
        .unwrap_or_else(|| panic!("no {key}"))
        .trim_start();
    let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    after[..digits].parse().unwrap()
}
