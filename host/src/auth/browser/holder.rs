//! Which program listens at a port, and which user a connection belongs to, as far as this can be
//! known from the socket tables in `/proc` and the descriptors of our user's processes.

use std::path::Path;

use super::super::sign_in::PortHolder;

/// How much of a command name is shown.
const NAME_CHARS: usize = 32;

/// One line of `/proc/net/tcp`.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    port: u16,
    peer: u16,
    listens: bool,
    uid: u32,
    inode: u64,
}

impl Row {
    /// `sl local remote st tx:rx tr:when retrnsmt uid timeout inode …`; `None`: a heading, or not a
    /// line of this form.
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split_ascii_whitespace().take(10).collect();
        let [_, local, remote, state, _, _, _, uid, _, inode] = fields[..] else { return None };
        let port = |address: &str| u16::from_str_radix(address.rsplit_once(':')?.1, 16).ok();
        Some(Self {
            port: port(local)?,
            peer: port(remote)?,
            listens: state == "0A",
            uid: uid.parse().ok()?,
            inode: inode.parse().ok()?,
        })
    }
}

fn rows() -> Vec<Row> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(std::fs::read_to_string);
    tables.iter().flatten().flat_map(|table| table.lines().filter_map(Row::parse)).collect()
}

/// The program that holds a busy port. Slow if there are many processes.
pub(super) fn holder(port: u16) -> PortHolder {
    let rows = rows().into_iter().filter(|row| row.listens && row.port == port);
    let sockets: Vec<String> = rows.map(|row| format!("socket:[{}]", row.inode)).collect();
    PortHolder { port, program: program(&sockets) }
}

/// Whether the loopback connection from the port `peer` to our `port` comes from another user of
/// this machine. False if this is not known.
pub(super) fn is_other_user(peer: u16, port: u16) -> bool {
    is_of_other_uid(&rows(), peer, port, rustix::process::geteuid().as_raw())
}

fn is_of_other_uid(rows: &[Row], peer: u16, port: u16, own: u32) -> bool {
    // Root may act for any user. If we run as root, the browser runs as the desktop's user.
    let is_other = |row: &&Row| row.uid != own && row.uid != 0 && own != 0;
    let mut matching = rows.iter().filter(|row| row.port == peer && row.peer == port);
    matching.any(|row| is_other(&row))
}

/// The first process whose open descriptors we can read and that has one of the sockets.
fn program(sockets: &[String]) -> Option<String> {
    let holds = |process: &Path| {
        let descriptors = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        let mut targets = descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        targets.any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
    };
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let mut processes = processes.filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        Some((pid, entry.path()))
    });
    let (pid, path) = processes.find(|(_, path)| !sockets.is_empty() && holds(path))?;
    let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
    // A process can choose its name, so only printable characters are shown.
    let plain = name.chars().filter(|c| c.is_ascii_graphic() || *c == ' ');
    Some(format!("{} (pid {pid})", plain.take(NAME_CHARS).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:05AF 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 31337 1 0000000000000000 100 0 0 10 0
   1: 0100007F:D2A4 0100007F:05AF 01 00000000:00000000 00:00000000 00000000     7        0 4242 1 0000000000000000 20 4 30 10 -1
   2: 0000000000000000FFFF00000100007F:05AF 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 9 1
   3: torn";

    #[test]
    fn a_table_of_sockets_is_read() {
        let rows: Vec<Row> = TABLE.lines().filter_map(Row::parse).collect();
        let expected = [
            Row { port: 1455, peer: 0, listens: true, uid: 1000, inode: 31337 },
            Row { port: 53924, peer: 1455, listens: false, uid: 7, inode: 4242 },
            Row { port: 1455, peer: 0, listens: true, uid: 0, inode: 9 },
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn a_connection_of_another_user_is_recognised() {
        let rows: Vec<Row> = TABLE.lines().filter_map(Row::parse).collect();
        // Our user, the peer's port, and whether the connection is of another user.
        let cases =
            [(1000, 53924, true), (7, 53924, false), (0, 53924, false), (1000, 53925, false)];
        for (own, peer, expected) in cases {
            assert_eq!(is_of_other_uid(&rows, peer, 1455, own), expected, "{own} {peer}");
        }
        let roots = [Row { port: 9, peer: 1455, listens: false, uid: 0, inode: 1 }];
        assert!(!is_of_other_uid(&roots, 9, 1455, 1000));
    }

    #[test]
    fn the_program_that_holds_a_port_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let holder = holder(port);
        let program = holder.program.expect("this process");
        assert!(program.ends_with(&format!(" (pid {})", std::process::id())), "{program}");
        drop(listener);
        assert_eq!(super::holder(port), PortHolder { port, program: None });
    }
}
