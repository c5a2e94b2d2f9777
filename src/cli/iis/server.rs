//! What files of IIS say about a server: its sites, their directories, what is set for them.

use std::rc::Rc;

use roxmltree::Node;

use super::document::{At, Tree, Wrong, at_path, children};
use super::metabase::{Called, Key, Metabase, Property, folded, is_within};

/// A server, as its files describe it.
#[derive(Debug, Default)]
pub(super) struct Server {
    pub(super) sites: Vec<Site>,
    pub(super) metabase: Metabase,
    pub(super) sections: Vec<Section>,
}

/// A web site.
#[derive(Debug, Default)]
pub(super) struct Site {
    pub(super) id: u32,
    pub(super) name: String,
    pub(super) bindings: Vec<Binding>,
    pub(super) directories: Vec<Directory>,
}

/// Where a site listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Binding {
    pub(super) tls: bool,
    /// Address, "*" for all.
    pub(super) address: String,
    pub(super) port: String,
    /// The host name that a request has to ask for; empty for any.
    pub(super) host: String,
}

/// A virtual directory, or the root of an application.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    /// As it is written.
    pub(super) path: String,
    /// Where its files are on that server.
    pub(super) physical: String,
}

/// A section of `system.webServer`, and for what it is set.
#[derive(Debug)]
pub(super) struct Section {
    /// Name of the site and path below it, folded; "/" for the whole server.
    pub(super) around: String,
    /// "security/requestFiltering", and for some "security/requestFiltering/requestLimits".
    pub(super) name: String,
    pub(super) attributes: Vec<(String, String)>,
    pub(super) at: At,
}

/// Elements that only group sections.
const GROUPS: [&str; 4] = ["security", "security/authentication", "tracing", "webdav"];

/// The one element within a section that is looked at by itself.
const LIMITS: &str = "requestLimits";

impl Server {
    /// Adds what a file says. Which one it is shows its outermost element.
    pub(super) fn add(&mut self, file: &Rc<str>, text: &str) -> Result<(), Wrong> {
        let tree = Tree::parse(file, text)?;
        let root = tree.root();
        if let Some(metabase) = children(root, "MBProperty").next() {
            return self.add_metabase(&tree, metabase);
        }
        if children(root, "system.applicationHost").next().is_some() {
            return self.add_application_host(&tree, root);
        }
        if root.descendants().any(|node| node.has_attribute("InternalName")) {
            self.add_schema(root);
            return Ok(());
        }
        Err(tree.at(root).wrong(
            "this is none of applicationHost.config, MetaBase.xml and MBSchema.xml: there is no <system.applicationHost>, \
             <MBProperty> or InternalName in it",
        ))
    }

    /// applicationHost.config of IIS 7 and later.
    fn add_application_host(&mut self, tree: &Tree<'_>, root: Node<'_, '_>) -> Result<(), Wrong> {
        for node in at_path(root, &["system.applicationHost", "sites", "site"]) {
            let id = tree.number(node, "id")?;
            let name = tree.required(node, "name")?.to_owned();
            let site = self.site(id);
            site.name = name;
            for binding in at_path(node, &["bindings", "binding"]) {
                let tls = match tree.required(binding, "protocol")? {
                    "http" => false,
                    "https" => true,
                    // net.tcp and the like: nothing that BITS speaks.
                    _ => continue,
                };
                site.bindings
                    .push(Binding::parse(tls, tree.required(binding, "bindingInformation")?));
            }
            for application in children(node, "application") {
                let base = tree.required(application, "path")?;
                for directory in children(application, "virtualDirectory") {
                    let path = joined(base, tree.required(directory, "path")?);
                    let physical = tree.required(directory, "physicalPath")?.to_owned();
                    site.directories.push(Directory { path, physical });
                }
            }
        }
        for node in at_path(root, &["system.applicationHost", "customMetadata", "key"]) {
            self.add_custom(tree, node)?;
        }
        self.add_sections(tree, root, "/");
        for location in children(root, "location") {
            let path = location.attribute("path").unwrap_or_default();
            self.add_sections(tree, location, &folded(path.trim_matches('.')));
        }
        Ok(())
    }

    /// A key of the metabase that IIS 7 has no place of its own for.
    fn add_custom(&mut self, tree: &Tree<'_>, node: Node<'_, '_>) -> Result<(), Wrong> {
        let path = tree.required(node, "path")?;
        // The schema of the metabase lies in the metabase: numbers as identifiers, names as values.
        let is_schema = folded(path) == "/lm/schema/properties/names";
        let key = Key::parse(path);
        for property in children(node, "property") {
            let number = tree.number(property, "id")?;
            let value = property.attribute("value").unwrap_or_default().to_owned();
            if is_schema {
                self.metabase.names.insert(number, value);
            } else if let Some(key) = &key {
                self.metabase.properties.push(Property {
                    key: key.clone(),
                    written: path.to_owned(),
                    called: Called::Number(number),
                    value,
                    inherits: inherits(property.attribute("attributes")),
                    at: tree.at(property),
                });
            }
        }
        Ok(())
    }

    fn add_sections(&mut self, tree: &Tree<'_>, node: Node<'_, '_>, around: &str) {
        for server in children(node, "system.webServer") {
            self.add_sections_of(tree, server, around, "");
        }
    }

    fn add_sections_of(&mut self, tree: &Tree<'_>, node: Node<'_, '_>, around: &str, within: &str) {
        for child in node.children().filter(Node::is_element) {
            let name = if within.is_empty() {
                child.tag_name().name().to_owned()
            } else {
                format!("{within}/{}", child.tag_name().name())
            };
            if GROUPS.contains(&name.as_str()) {
                self.add_sections_of(tree, child, around, &name);
                continue;
            }
            // A section that only holds its limits says nothing else.
            let own = attributes(child);
            let others = child
                .children()
                .filter(|inner| inner.is_element() && inner.tag_name().name() != LIMITS);
            if !own.is_empty() || others.count() > 0 || children(child, LIMITS).next().is_none() {
                self.sections.push(Section {
                    around: around.to_owned(),
                    attributes: own,
                    at: tree.at(child),
                    name: name.clone(),
                });
            }
            for limits in children(child, LIMITS) {
                self.sections.push(Section {
                    around: around.to_owned(),
                    attributes: attributes(limits),
                    at: tree.at(limits),
                    name: format!("{name}/{LIMITS}"),
                });
            }
        }
    }

    /// MetaBase.xml of IIS 6, where properties have their names.
    fn add_metabase(&mut self, tree: &Tree<'_>, root: Node<'_, '_>) -> Result<(), Wrong> {
        for node in root.children().filter(Node::is_element) {
            let path = node.attribute("Location").unwrap_or_default();
            let Some(key) = Key::parse(path) else {
                continue;
            };
            self.describe(&key, node);
            for attribute in node.attributes().filter(|attribute| attribute.name() != "Location") {
                self.metabase.properties.push(Property {
                    key: key.clone(),
                    written: path.to_owned(),
                    called: Called::Name(attribute.name().to_owned()),
                    value: attribute.value().to_owned(),
                    inherits: true,
                    at: tree.at(node),
                });
            }
            for custom in children(node, "Custom") {
                let called = match custom.attribute("Name") {
                    // What it is called that the schema does not know.
                    Some(name) if !name.is_empty() && !name.starts_with("UnknownName") => Called::Name(name.to_owned()),
                    _ => Called::Number(tree.number(custom, "ID")?),
                };
                self.metabase.properties.push(Property {
                    key: key.clone(),
                    written: path.to_owned(),
                    called,
                    value: custom.attribute("Value").unwrap_or_default().to_owned(),
                    inherits: inherits(custom.attribute("Attributes")),
                    at: tree.at(custom),
                });
            }
        }
        Ok(())
    }

    /// What the metabase says about a site or a directory itself.
    fn describe(&mut self, key: &Key, node: Node<'_, '_>) {
        match key {
            Key::Service => {}
            Key::Site(id) => {
                let site = self.site(*id);
                if let Some(name) = node.attribute("ServerComment") {
                    site.name = name.to_owned();
                }
                for (tls, name) in [(false, "ServerBindings"), (true, "SecureBindings")] {
                    let bindings = node.attribute(name).unwrap_or_default().split_whitespace();
                    site.bindings.extend(bindings.map(|text| Binding::parse(tls, text)));
                }
            }
            Key::Directory(id, path) => {
                if let Some(physical) = node.attribute("Path") {
                    let written = node.attribute("Location").unwrap_or_default().split('/');
                    let written: Vec<_> = written.filter(|segment| !segment.is_empty()).skip(4).collect();
                    let site = self.site(*id);
                    site.directories.retain(|known| folded(&known.path) != *path);
                    site.directories.push(Directory {
                        path: format!("/{}", written.join("/")),
                        physical: physical.to_owned(),
                    });
                }
            }
        }
    }

    /// MBSchema.xml: the names of the numbers.
    fn add_schema(&mut self, root: Node<'_, '_>) {
        for node in root.descendants() {
            if let (Some(name), Some(number)) = (node.attribute("InternalName"), node.attribute("ID"))
                && let Ok(number) = number.parse()
            {
                self.metabase.names.insert(number, name.to_owned());
            }
        }
    }

    fn site(&mut self, id: u32) -> &mut Site {
        let index = self.sites.iter().position(|site| site.id == id);
        let index = index.unwrap_or_else(|| {
            self.sites.push(Site { id, ..Site::default() });
            self.sites.len() - 1
        });
        &mut self.sites[index]
    }

    /// The sections that hold for the directory `path` (folded) of a site, the nearest last.
    pub(super) fn sections_of(&self, site: &Site, path: &str) -> Vec<&Section> {
        let whole = folded(&format!("{}{}", site.name, path.trim_end_matches('/')));
        let mut sections: Vec<_> = self
            .sections
            .iter()
            .filter(|section| is_within(&whole, &section.around))
            .collect();
        sections.sort_by_key(|section| section.around.len());
        sections
    }
}

impl Site {
    /// How it is called: by its number when it has no name.
    pub(super) fn called(&self) -> String {
        if self.name.is_empty() {
            format!("site {}", self.id)
        } else {
            self.name.clone()
        }
    }

    /// The directory `path` (folded) with its `key` as written, and where its files are: those of the nearest virtual directory, and the
    /// rest of the path below them.
    pub(super) fn directory(&self, path: &str, key: &str) -> Option<Directory> {
        let around = self
            .directories
            .iter()
            .filter(|directory| is_within(path, &folded(&directory.path)))
            .max_by_key(|directory| segments(&directory.path).count())?;
        let rest = segments(path).count() - segments(&around.path).count();
        let written: Vec<_> = segments(key).collect();
        let rest = &written[written.len().saturating_sub(rest)..];
        let below = |base: &str, separator: &str| {
            let base = base.trim_end_matches(['/', '\\']);
            [&[base], rest].concat().join(separator)
        };
        Some(Directory {
            path: below(&around.path, "/"),
            physical: if rest.is_empty() {
                around.physical.clone()
            } else {
                below(&around.physical, "\\")
            },
        })
    }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

impl Binding {
    /// `*:80:host`; an IPv6 address in brackets.
    fn parse(tls: bool, text: &str) -> Self {
        let (rest, host) = text.rsplit_once(':').unwrap_or((text, ""));
        let (address, port) = rest.rsplit_once(':').unwrap_or(("", rest));
        let address = if address.is_empty() { "*" } else { address };
        Self {
            tls,
            address: address.to_owned(),
            port: port.to_owned(),
            host: host.to_lowercase(),
        }
    }
}

/// The path of a virtual directory within an application.
fn joined(application: &str, directory: &str) -> String {
    format!(
        "{}/{}",
        application.trim_end_matches('/'),
        directory.trim_start_matches('/')
    )
}

fn attributes(node: Node<'_, '_>) -> Vec<(String, String)> {
    node.attributes()
        .map(|attribute| (attribute.name().to_owned(), attribute.value().to_owned()))
        .collect()
}

/// Whether the attributes of a property let it hold below its key; they do by default.
fn inherits(attributes: Option<&str>) -> bool {
    attributes.is_none_or(|attributes| {
        attributes
            .split([',', '|'])
            .any(|flag| flag.trim().eq_ignore_ascii_case("Inherit"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings_name_address_port_and_host() {
        let binding = |text| {
            let Binding {
                address, port, host, ..
            } = Binding::parse(false, text);
            [address, port, host]
        };
        assert_eq!(binding("*:80:"), ["*", "80", ""]);
        assert_eq!(binding(":8080:Up.Example.com"), ["*", "8080", "up.example.com"]);
        assert_eq!(binding("10.0.0.5:443:h"), ["10.0.0.5", "443", "h"]);
        assert_eq!(binding("[fe80::1]:80:"), ["[fe80::1]", "80", ""]);
    }

    #[test]
    fn a_folder_in_a_virtual_directory_lies_in_its_files() {
        let site = Site {
            directories: [("/", "C:\\www"), ("/Up", "D:\\up")]
                .map(|(path, physical)| Directory {
                    path: path.to_owned(),
                    physical: physical.to_owned(),
                })
                .to_vec(),
            ..Site::default()
        };
        let found = |path: &str| {
            let key = format!("LM/W3SVC/1/ROOT{path}");
            let found = site.directory(&folded(path), &key).unwrap();
            (found.path, found.physical)
        };
        assert_eq!(found("/UP"), ("/Up".to_owned(), "D:\\up".to_owned()));
        assert_eq!(found("/UP/In"), ("/Up/In".to_owned(), "D:\\up\\In".to_owned()));
        assert_eq!(found("/Upper"), ("/Upper".to_owned(), "C:\\www\\Upper".to_owned()));
        assert_eq!(found("/"), (String::new(), "C:\\www".to_owned()));
    }

    #[test]
    fn only_what_is_marked_so_is_inherited() {
        assert!(inherits(None) && inherits(Some("Inherit")) && inherits(Some("INHERIT | SECURE")));
        assert!(!inherits(Some("None")) && !inherits(Some("IsInherited")));
    }
}
