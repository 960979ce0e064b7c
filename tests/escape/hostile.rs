//! An image that means harm: the base image with a set-uid shell, and with a module that glibc
//! loads into every program, and into whoever looks up a name.

use airlock_tests::Rig;
use airlock_tests::engine::Engine;
use tokio::process::Command;
use tokio::sync::OnceCell;

/// Leaves a file that says who loaded it: `/tmp/planted-<pid>-<uid>`.
const MODULE: &str = r#"
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
__attribute__((constructor)) static void planted(void) {
    char name[64];
    snprintf(name, sizeof name, "/tmp/planted-%d-%d", getpid(), geteuid());
    int fd = open(name, O_CREAT | O_WRONLY, 0644);
    if (fd >= 0) close(fd);
}
"#;

const DOCKERFILE: &str = "
COPY libnss_planted.so.2 /usr/lib/planted/libnss_planted.so.2
RUN cp /bin/bash /usr/bin/rootbash && chmod 4755 /usr/bin/rootbash \
 && cp /usr/lib/planted/libnss_planted.so.2 \"$(dirname \"$(find / -xdev -name 'libnss_files.so.2' | head -n 1)\")\"/ \
 && printf 'passwd: planted files\\ngroup: planted files\\nhosts: planted files dns\\n' > /etc/nsswitch.conf
LABEL airlock.tests=rig
ENV LD_PRELOAD=/usr/lib/planted/libnss_planted.so.2 BASH_ENV=/etc/planted GCONV_PATH=/usr/lib/planted
";

/// Its name, once it is there. Kept under a name of its definition.
pub(crate) async fn image() -> &'static str {
    static IMAGE: OnceCell<String> = OnceCell::const_new();
    IMAGE
        .get_or_init(|| async {
            let engine = Engine::connect().await;
            let base = base().await;
            let definition = format!("{base}{MODULE}{DOCKERFILE}");
            let number = definition
                .bytes()
                .fold(5381_u64, |sum, byte| sum.wrapping_mul(33).wrapping_add(u64::from(byte)));
            let name = format!("airlock-test-hostile:{number:016x}");
            if !engine.has_image(&name).await {
                engine.build(&name, context(&base).await).await;
            }
            name
        })
        .await
}

/// The base image's name, made if it is not there.
async fn base() -> String {
    let made = Rig::new().command("setup").await.arg("image").output().await;
    let made = made.expect("airlock can be started");
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    let mut words = said.split_whitespace();
    let name = words.find(|word| word.starts_with("airlock-base:"));
    name.unwrap_or_else(|| panic!("no base image: {said}")).to_owned()
}

/// A folder as the engine builds from, as a tar.
async fn context(base: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (source, module) = (folder.path().join("m.c"), folder.path().join("m.so"));
    std::fs::write(&source, MODULE).expect("it can be written");
    // The linker that Rust needs is a compiler for this.
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&module).arg(&source);
    assert!(compiler.status().await.expect("Rust links with cc").success());
    let mut tar = tar::Builder::new(Vec::new());
    let dockerfile = format!("FROM {base}\n{DOCKERFILE}");
    let module = std::fs::read(module).expect("it was just made");
    for (path, bytes) in
        [("Dockerfile", dockerfile.as_bytes()), ("libnss_planted.so.2", &module[..])]
    {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, path, bytes).expect("it fits");
    }
    tar.into_inner().expect("it fits")
}
