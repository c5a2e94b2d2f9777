//! Numbers that stand in several files and have to agree.

use super::text;

#[test]
fn whoever_kills_waits_longer_than_the_gateway_takes_to_end() {
    let deployment = text("deploy/kubernetes/deployment.yaml");
    let kill = number_after(&deployment, "terminationGracePeriodSeconds:");
    let settings = text("deploy/kubernetes/configmap.yaml");
    let [grace, delay] = ["grace_period = \"", "drain_delay = \""].map(|key| number_after(&settings, key));
    assert!(kill > grace + delay, "{kill} > {grace} + {delay}");

    let unit = text("deploy/systemd/bits-gateway.service");
    let grace = bits_gateway::config::Settings::default().server.grace_period.as_secs();
    assert!(number_after(&unit, "TimeoutStopSec=") > grace);
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
