//! What IIS was told beside BITS, and nobody does here: each thing is named, so that nobody believes that it still holds.

use std::collections::{BTreeMap, BTreeSet};

use super::metabase::Property;
use super::server::Section;

/// Says what of the sections and properties that hold for a directory has no counterpart. `sections` has the nearest last.
pub(super) fn comments<'p>(
    sections: &[&Section],
    of: impl Fn(&str) -> Option<&'p Property>,
    mut say: impl FnMut(&str),
) {
    let effective = Effective::of(sections);
    authentication(&effective, &of, &mut say);
    let needs_tls = effective.get("security/access", "sslFlags").is_some_and(is_set)
        || of("AccessSSLFlags").is_some_and(|flags| is_set(&flags.value));
    if needs_tls {
        say("IIS took this directory over TLS only: what ends TLS in front of the gateway has to see to that.");
    }
    let filters_addresses = sections
        .iter()
        .any(|section| section.name == "security/ipSecurity" && section.around != "/");
    if filters_addresses || of("IPSecurity").is_some() {
        say("IIS refused some addresses: that is for what stands in front of the gateway.");
    }
    if let Some(most) = effective.get("security/requestFiltering/requestLimits", "maxAllowedContentLength") {
        say(&format!(
            "maxAllowedContentLength = {}: requests have no limit of their own here, files have max_upload_size.",
            most
        ));
    }
    let redirects = effective
        .get("httpRedirect", "enabled")
        .is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if redirects || of("HttpRedirect").is_some() {
        say("IIS redirected requests of this directory: that is for what stands in front of the gateway.");
    }
    let reads = effective
        .get("handlers", "accessPolicy")
        .is_some_and(|policy| mentions(policy, "Read"))
        || of("AccessFlags").is_some_and(|flags| mentions(&flags.value, "AccessRead"));
    if reads {
        say("Whoever had the right to read could download from here: download = true lets everybody.");
    }
    let others: BTreeSet<_> = sections
        .iter()
        .filter(|section| section.around != "/" && !SPOKEN_OF.contains(&section.name.as_str()))
        .map(|section| format!("{} (line {})", section.name, section.at.line()))
        .collect();
    if !others.is_empty() {
        let others: Vec<_> = others.into_iter().collect();
        say(&format!(
            "Set there, too, and without a counterpart: {}.",
            others.join(", ")
        ));
    }
}

/// Sections that something is said about, or that mean nothing to uploads.
const SPOKEN_OF: [&str; 12] = [
    "security/access",
    "security/ipSecurity",
    "security/requestFiltering/requestLimits",
    "security/authentication/anonymousAuthentication",
    "security/authentication/basicAuthentication",
    "security/authentication/clientCertificateMappingAuthentication",
    "security/authentication/digestAuthentication",
    "security/authentication/iisClientCertificateMappingAuthentication",
    "security/authentication/windowsAuthentication",
    "handlers",
    "httpRedirect",
    "directoryBrowse",
];

/// The ways to say who one is, as IIS names them, and as people do.
const WAYS: [(&str, &str, &str); 5] = [
    ("windowsAuthentication", "AuthNTLM", "Windows"),
    ("basicAuthentication", "AuthBasic", "Basic"),
    ("digestAuthentication", "AuthMD5", "Digest"),
    ("clientCertificateMappingAuthentication", "", "client certificate"),
    ("iisClientCertificateMappingAuthentication", "", "client certificate"),
];

/// The one thing that is dangerous to lose.
fn authentication<'p>(
    effective: &Effective<'_>,
    of: &impl Fn(&str) -> Option<&'p Property>,
    say: &mut impl FnMut(&str),
) {
    let flags = of("AuthFlags").map(|flags| flags.value.as_str());
    let is_on = |way: &str| {
        let value = effective.get(&format!("security/authentication/{way}"), "enabled");
        value.map(|value| value.eq_ignore_ascii_case("true"))
    };
    let takes_everybody = is_on("anonymousAuthentication")
        .or(flags.map(|flags| mentions(flags, "AuthAnonymous")))
        .unwrap_or(true);
    let ways: BTreeSet<_> = WAYS
        .into_iter()
        .filter(|(way, flag, _)| {
            is_on(way).unwrap_or(false) || (!flag.is_empty() && flags.is_some_and(|flags| mentions(flags, flag)))
        })
        .map(|(_, _, called)| called)
        .collect();
    let ways: Vec<_> = ways.into_iter().collect();
    if !takes_everybody {
        let by = if ways.is_empty() {
            String::new()
        } else {
            format!(" ({})", ways.join(", "))
        };
        say(&format!(
            "WARNING: IIS asked who the client is{by}. The gateway does not: whoever reaches it may upload here. docs/security.md"
        ));
    } else if !ways.is_empty() {
        say(&format!(
            "IIS could ask who the client is ({}); the gateway does not.",
            ways.join(", ")
        ));
    }
}

/// Whether a list of flags, separated in any way, has one of this name.
fn mentions(flags: &str, flag: &str) -> bool {
    flags
        .split(|c: char| !c.is_ascii_alphanumeric())
        .any(|word| word.eq_ignore_ascii_case(flag))
}

/// Whether flags are any at all.
fn is_set(flags: &str) -> bool {
    !matches!(flags.trim(), "" | "0") && !flags.trim().eq_ignore_ascii_case("None")
}

/// The attributes that hold: what is set nearest.
struct Effective<'s>(BTreeMap<(&'s str, &'s str), &'s str>);

impl<'s> Effective<'s> {
    fn of(sections: &[&'s Section]) -> Self {
        let attributes = sections.iter().flat_map(|section| {
            let of_section = section.attributes.iter();
            of_section.map(|(name, value)| ((section.name.as_str(), name.as_str()), value.as_str()))
        });
        Self(attributes.collect())
    }

    fn get(&self, section: &str, attribute: &str) -> Option<&'s str> {
        self.0.get(&(section, attribute)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_told_apart_by_whole_words() {
        assert!(mentions("Read, Script", "read") && mentions("AuthAnonymous | AuthNTLM", "AuthNTLM"));
        assert!(!mentions("NoRemoteRead", "Read") && !mentions("", "Read"));
        assert!(is_set("Ssl, Ssl128") && !is_set("None") && !is_set("0"));
    }
}
