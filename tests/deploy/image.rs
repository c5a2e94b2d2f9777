//! The container image, built and used. Opt-in: it needs buildah, and a release build of everything.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use super::gateway::{Gateway, get, output, program};

/// Covers what `make image` promises: the image serves as its own user, and a file that is uploaded through it comes back.
#[test]
fn an_upload_goes_through_the_image() {
    if std::env::var_os("BITS_GATEWAY_TEST_IMAGE").is_none() {
        // Not println: the harness would swallow it.
        writeln!(
            std::io::stderr(),
            "SKIPPED: the container image: needs buildah and a release build; BITS_GATEWAY_TEST_IMAGE=1 switches it on"
        )
        .unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let configuration = folder.path().join("storage.conf");
    let [images, run] = ["images", "run"].map(|name| folder.path().join(name));
    std::fs::write(
        &configuration,
        format!("[storage]\ndriver = \"vfs\"\ngraphroot = {images:?}\nrunroot = {run:?}\n"),
    )
    .unwrap();
    let buildah = |arguments: &[&str]| {
        let mut command = Command::new("buildah");
        command
            .args(arguments)
            .env("CONTAINERS_STORAGE_CONF", &configuration)
            .env("BUILDAH_ISOLATION", "chroot");
        command
    };

    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let name = "localhost/bits-gateway:test";
    output(
        Command::new(root.join(".ci/image"))
            .arg(name)
            .env("CONTAINERS_STORAGE_CONF", &configuration)
            .env("BUILDAH_ISOLATION", "chroot"),
    );
    let inspected = output(&mut buildah(&[
        "inspect",
        "--type",
        "image",
        "--format",
        "{{.OCIv1.Config.User}} {{.OCIv1.Config.Entrypoint}}",
        name,
    ]));
    assert_eq!(inspected.trim(), "65532:65532 [/bits-gateway]");

    let container = output(&mut buildah(&["from", name])).trim().to_owned();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    // The user of the image is nobody here.
    std::fs::set_permissions(&data, Permissions::from_mode(0o777)).unwrap();
    let file = folder.path().join("Cargo.lock");
    std::fs::copy(root.join("Cargo.lock"), &file).unwrap();
    let sent = std::fs::read_to_string(&file).unwrap();
    // Once into the volume that the image itself declares, and once into a folder of this machine: for a folder at /data some versions
    // of buildah mount the volume instead.
    let volume = format!("{}:/files", data.display());
    let mounted: [(&[&str], &str); 2] = [(&[], "/data"), (&["--volume", &volume], "/files")];
    for (options, store) in mounted {
        let run = [&["run"], options, &[&container, "--", "/bits-gateway"]].concat();
        let served = Gateway::start(buildah(&run), &["--store", store]);
        let url = format!("http://{}/locks/Cargo.lock", served.address);
        output(program().arg("upload").arg(&file).arg(&url));
        let answer = get(&served.address, "/locks/Cargo.lock").unwrap();
        assert!(answer.ends_with(&sent), "{store}");
    }
    let kept = data.join("locks/Cargo.lock");
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), sent);
    assert_eq!(std::fs::metadata(&kept).unwrap().uid(), 65532);

    output(&mut buildah(&["rm", &container]));
    output(&mut buildah(&["rmi", name]));
}
