//! Routes that are made of files of IIS.

use std::path::Path;
use std::process::{Command, Output};

use super::{load_text, repository};

const FARM: [&str; 2] = ["farm.applicationHost.config", "farm.MBSchema.xml"];

fn import(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bits-gateway"))
        .args(["config", "import-iis"])
        .args(arguments)
        .current_dir(repository("tests/config/iis"))
        .output()
        .unwrap()
}

fn imported(arguments: &[&str]) -> String {
    let output = import(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty());
    String::from_utf8(output.stdout).unwrap()
}

/// What is said, and with which exit code, when `text` is the file.
fn refused(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("applicationHost.config");
    std::fs::write(&file, text).unwrap();
    refusal(&file, &[])
}

fn refusal(file: &Path, more: &[&str]) -> String {
    let output = import(&[&[file.to_str().unwrap()], more].concat());
    assert_eq!(output.status.code(), Some(78));
    assert!(output.stdout.is_empty());
    let told = String::from_utf8(output.stderr).unwrap();
    told.replace(&format!("{}/", file.parent().unwrap().display()), "")
}

fn golden(name: &str, fresh: &str) {
    let file = repository("tests/config/iis").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, fresh).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap_or_default(), fresh, "{name}");
}

/// `check` takes it, and has nothing to add.
fn passes_check(text: &str) {
    let loaded = load_text(text, &[]).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    assert!(loaded.warnings.is_empty(), "{:?}\n{text}", loaded.warnings);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    std::fs::write(&file, text).unwrap();
    let checked = Command::new(env!("CARGO_BIN_EXE_bits-gateway"))
        .args(["check", "--config", file.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn a_server_with_several_sites_becomes_the_routes_that_are_kept_here() {
    let text = imported(&FARM);
    golden("farm.toml", &text);
    passes_check(&text);
}

#[test]
fn with_an_upstream_everything_stays_there_until_it_is_taken_over() {
    let options = [
        &FARM[..],
        &["--upstream", "http://iis:8080", "--store", "s3://bucket/bits/"],
    ]
    .concat();
    let text = imported(&options);
    golden("farm.proxied.toml", &text);
    passes_check(&text);
    let routes = load_text(&text, &[]).unwrap().settings.routes;
    assert!(routes.iter().all(|route| route.upload.passes_packets_on()));
    assert!(routes.iter().any(|route| route.gateway.path == "/"));
}

#[test]
fn a_metabase_of_iis_6_needs_no_other_file() {
    let text = imported(&["old.MetaBase.xml"]);
    golden("old.toml", &text);
    passes_check(&text);
}

#[test]
fn what_is_set_for_a_site_holds_in_its_directories_unless_they_say_otherwise() {
    let routes = load_text(&imported(&FARM), &[]).unwrap().settings.routes;
    let route = |path: &str| routes.iter().find(|route| route.gateway.path == path).unwrap();
    let (upload, reports) = (route("/Upload/"), route("/Upload/Reports/"));
    assert_eq!(upload.upload.session_timeout.as_secs(), 604_800, "that of all sites");
    assert_eq!(reports.upload.session_timeout.as_secs(), 3_600, "its own");
    assert!(upload.upload.overwrite && reports.upload.overwrite);
    assert_eq!(reports.upload.max_upload_size.bytes(), 8 << 30);
    // Enabled is what is never inherited.
    assert!(routes.iter().all(|route| !route.gateway.path.contains("losed")));
    assert_eq!(routes.len(), 4, "two, and one for each host name of the second site");
}

#[test]
fn no_secret_of_the_file_is_printed() {
    for options in [&FARM[..], &[FARM[0], FARM[1], "--upstream", "http://iis"]] {
        let text = imported(options);
        assert!(!text.contains("enc:") && !text.contains("svc"), "{text}");
    }
}

/// Notepad saves UTF-16 as "Unicode", and PowerShell writes it by default.
#[test]
fn the_encoding_of_the_file_makes_no_difference() {
    let text = std::fs::read_to_string(repository("tests/config/iis").join(FARM[0])).unwrap();
    let kept = std::fs::read_to_string(repository("tests/config/iis/farm.toml")).unwrap();
    let wide = |unit: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
    for bytes in [
        [&[0xef, 0xbb, 0xbf], text.as_bytes()].concat(),
        text.replace('\n', "\r\n").into_bytes(),
        [&[0xff, 0xfe][..], &wide(u16::to_le_bytes)].concat(),
        [&[0xfe, 0xff][..], &wide(u16::to_be_bytes)].concat(),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FARM[0]);
        std::fs::write(&file, bytes).unwrap();
        assert_eq!(imported(&[file.to_str().unwrap(), FARM[1]]), kept);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("applicationHost.config");
    std::fs::write(&file, b"<configuration name=\"Eing\xe4nge\"/>").unwrap();
    assert_eq!(
        refusal(&file, &[]),
        "applicationHost.config: is neither UTF-8 nor UTF-16: save it as one of these\n"
    );
}

#[test]
fn numbers_without_names_are_told_apart_from_nothing_at_all() {
    let file = repository("tests/config/iis").join(FARM[0]);
    let told = refusal(&file, &[]);
    assert!(
        told.contains("no directory has BITSUploadEnabled set, but ")
            && told.contains("farm.applicationHost.config:20:17"),
        "{told}"
    );
    assert!(told.contains("MBSchema.xml"), "{told}");
    let empty = "<configuration><system.applicationHost><sites/></system.applicationHost></configuration>";
    assert_eq!(refused(empty), "no directory has BITSUploadEnabled set\n");
}

#[test]
fn every_mistake_is_told_with_file_line_and_column() {
    let of_site = |site: &str| {
        format!(
            "<configuration>\n<system.applicationHost>\n<sites>\n{site}\n</sites>\n</system.applicationHost>\n</configuration>"
        )
    };
    let with = |attributes: &str| {
        format!(
            "<configuration>\n<MBProperty>\n<IIsWebServer Location='/LM/W3SVC/1' ServerBindings=':80:'/>\n\
             <IIsWebVirtualDir Location='/LM/W3SVC/1/ROOT/up' {attributes}/>\n</MBProperty>\n</configuration>"
        )
    };
    for (text, told) in [
        (
            "<configuration>\n  <system.applicationHost>\n</configuration>".to_owned(),
            ":3:1: this is not XML: ",
        ),
        (
            "<html/>".to_owned(),
            ":1:1: this is none of applicationHost.config, MetaBase.xml and MBSchema.xml",
        ),
        (of_site("<site name='x'/>"), ":4:1: <site> has no attribute \"id\"\n"),
        (
            of_site("<site name='x' id='one'/>"),
            ":4:1: id=\"one\" is not a number\n",
        ),
        (
            of_site(
                "<site name='x' id='1'>\n  <application path='/'><virtualDirectory path='/'/></application></site>",
            ),
            ":5:25: <virtualDirectory> has no attribute \"physicalPath\"\n",
        ),
        (
            with("BITSUploadEnabled='perhaps'"),
            ":4:1: \"perhaps\" is neither true nor false\n",
        ),
        (
            with("BITSUploadEnabled='1'"),
            ":4:1: no file says where the files of /up of site 1 are\n",
        ),
        (
            with("Path='D:\\up' BITSUploadEnabled='1' BITSSessionTimeout='long'"),
            ":4:1: \"long\" is not a number\n",
        ),
        (
            with("Path='D:\\up' BITSUploadEnabled='1' BITSServerNotificationType='3'"),
            ":4:1: a notification type is 0, 1 or 2\n",
        ),
    ] {
        let found = refused(&text);
        assert!(found.starts_with(&format!("applicationHost.config{told}")), "{found}");
    }
    let nowhere = refusal(Path::new("/nowhere/applicationHost.config"), &[]);
    assert!(nowhere.starts_with("applicationHost.config: No such file"), "{nowhere}");
}

/// Comments and strings are made of what a file says: none of it may become a key.
#[test]
fn nothing_in_a_file_breaks_out_of_its_comment_or_string() {
    let hostile = "D:\\up&#10;upload = true&quot;&#10;[server]";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("MetaBase.xml");
    let text = format!(
        "<configuration><MBProperty><IIsWebServer Location='/LM/W3SVC/1' ServerComment='{hostile}' ServerBindings=':80:'/>\
         <IIsWebVirtualDir Location='/LM/W3SVC/1/ROOT/up' Path='{hostile}' BITSUploadEnabled='1' BITSSessionDirectory='{hostile}' \
         BITSServerNotificationType='2' BITSServerNotificationURL='\\\\{hostile}'/></MBProperty></configuration>"
    );
    std::fs::write(&file, text).unwrap();
    let text = imported(&[file.to_str().unwrap()]);
    passes_check(&text);
    assert_eq!(text.matches("\n[").count(), 2, "{text}");
}

/// What docs/migrating-from-iis.md shows how to make where the numbers have no names.
#[test]
fn names_may_come_from_the_running_server_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bits.xml");
    let text = "<configuration><MBProperty>\
        <IIsWebVirtualDir Location=\"/LM/W3SVC/1/ROOT\" BITSUploadEnabled=\"False\" BITSSessionTimeout=\"604800\" />\n\
        <IIsWebVirtualDir Location=\"/LM/W3SVC/1/ROOT/Upload\" BITSUploadEnabled=\"True\" BITSSessionTimeout=\"3600\" />\
        </MBProperty></configuration>";
    std::fs::write(&file, text).unwrap();
    let text = imported(&[FARM[0], file.to_str().unwrap()]);
    passes_check(&text);
    let routes = load_text(&text, &[]).unwrap().settings.routes;
    assert_eq!(routes.len(), 1);
    assert_eq!(routes[0].gateway.path, "/Upload/");
    assert_eq!(routes[0].upload.session_timeout.as_secs(), 3_600);
}
