//! Other machines: there is none. The control has the host's own network, where a server of the
//! test's waits.

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, UdpSocket};

use crate::attack::attack;

#[tokio::test]
async fn no_connection_leaves_the_sandbox() {
    let listener = TcpListener::bind("0.0.0.0:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            drop(stream.write_all(b"hello").await);
        }
    });
    let reaches = |address: &str, port: u16| {
        format!("timeout 3 bash -c 'exec 3<>/dev/tcp/{address}/{port}' && works")
    };
    let here = reaches("127.0.0.1", port);
    let mut calls = vec![here.clone(), reaches("172.17.0.1", port), reaches("::1", port)];
    for metadata in ["169.254.169.254", "100.100.100.200", "fd00:ec2::254"] {
        calls.push(reaches(metadata, 80));
    }
    for (far, port) in [("1.1.1.1", 443), ("8.8.8.8", 53), ("host.docker.internal", 80)] {
        calls.push(reaches(far, port));
    }
    let calls: Vec<&str> = calls.iter().map(String::as_str).collect();
    let host = json!({"NetworkMode": "host"});
    attack(&calls).control(&[&here]).unconfined(host).works_only_elsewhere().await;
    serving.abort();
}

#[tokio::test]
async fn no_name_is_looked_up_and_no_datagram_is_answered() {
    let socket = UdpSocket::bind("0.0.0.0:0").await.expect("a free port");
    let port = socket.local_addr().expect("it is bound").port();
    let serving = tokio::spawn(async move {
        let mut bytes = [0; 512];
        while let Ok((read, from)) = socket.recv_from(&mut bytes).await {
            drop(socket.send_to(&bytes[..read], from).await);
        }
    });
    let asks = |address: &str, port: u16| {
        format!(
            "python3 -c 'import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2)
s.sendto(b\"\\0\\1\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\3www\\0\\0\\1\\0\\1\", (\"{address}\", {port})); s.recv(512)' && works"
        )
    };
    let here = asks("127.0.0.1", port);
    let (gateway, far) = (asks("172.17.0.1", port), asks("8.8.8.8", 53));
    let names = "timeout 5 getent hosts example.com metadata.google.internal && works; grep -qs nameserver /etc/resolv.conf && for server in $(awk '/^nameserver/{print $2}' /etc/resolv.conf); do timeout 2 bash -c \"exec 3<>/dev/tcp/$server/53\" && works; done";
    attack(&[&here, &gateway, &far, names])
        .control(&[&here])
        .unconfined(json!({"NetworkMode": "host"}))
        .works_only_elsewhere()
        .await;
    serving.abort();
}

#[tokio::test]
async fn there_is_no_route_and_no_interface() {
    attack(&[
        "[ $(wc -l </proc/net/route) -gt 1 ] && works",
        "ls /sys/class/net | grep -qvx lo && works",
    ])
    .unconfined(json!({"NetworkMode": "host"}))
    .works_only_elsewhere()
    .await;
}

/// Sockets that no address protects: abstract names of the machine, and the hypervisor's.
#[tokio::test]
async fn no_socket_of_the_machine_is_reached() {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixListener};
    let name = format!("airlock-test-{:032x}", rand::random::<u128>());
    let address = SocketAddr::from_abstract_name(&name).expect("a short name");
    let listener = UnixListener::bind_addr(&address).expect("nobody has this name");
    let reaches = format!(
        "python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"\\0{name}\")' && works"
    );
    let lists = "grep -q @ /proc/net/unix && works";
    let machine = "python3 -c 'import socket
s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM); s.settimeout(2); s.connect((2, 1024))' && works";
    let packets =
        "python3 -c 'import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)' && works
        python3 -c 'import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)' && works";
    attack(&[&reaches, lists, machine, packets])
        .control(&[&reaches])
        .unconfined(json!({"NetworkMode": "host"}))
        .works_only_elsewhere()
        .await;
    drop(listener);
}

/// Sockets of other kinds than the container's own: they belong to no network namespace (VM
/// sockets), or what waits in them is charged to no container (netlink). The engine's own filter
/// knows some of them, depending on its age.
#[tokio::test]
async fn no_socket_is_made_that_no_namespace_holds() {
    let makes = "python3 -c 'import socket, sys
for family in set(range(64)) - {1, 2, 10}:
    for kind in (1, 2, 3, 5):
        try: socket.socket(family, kind, 0)
        except OSError: continue
        print(\"made\", family); sys.exit(0)
sys.exit(1)' && works";
    // What fills the host's memory: questions about routes whose answers are never read.
    let fills = "python3 -c 'import socket, struct
asks = socket.socket(16, 3, 0); asks.setblocking(False); asks.bind((0, 0))
for _ in range(50): asks.send(struct.pack(\"IHHIIBBHiII\", 32, 18, 1, 1, 0, 0, 0, 0, 1, 0, 0))' && works";
    let rings = "python3 -c 'import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True); libc.syscall(425, 0, None)
raise SystemExit(0 if ctypes.get_errno() == errno.EFAULT else 1)' && works";
    attack(&[makes, fills, rings])
        .unconfined(json!({"SecurityOpt": ["seccomp=unconfined"]}))
        .works_only_elsewhere()
        .await;
}
