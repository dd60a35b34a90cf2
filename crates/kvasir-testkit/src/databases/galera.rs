//! A Galera cluster of three MariaDB nodes.

use std::io;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::mariadb::{self, USER_SQL};
use super::{Process, Programs, free_port, fresh_name, run, scratch};

/// How many nodes: the smallest cluster that survives the loss of one.
const NODES: usize = 3;

const PROVIDER: &str = "usr/lib/galera/libgalera_smm.so";

/// Three nodes on loopback, user `kv`, password `kv`. Ended when dropped.
#[derive(Debug)]
pub struct Galera {
    nodes: [Option<Process>; NODES],
    ports: [Ports; NODES],
    programs: Programs,
    dir: TempDir,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    sql: u16,
    group: u16,
    incremental: u16,
    state: u16,
}

impl Galera {
    /// Starts a cluster; `None` (and a line on standard error) where Galera is not installed.
    ///
    /// # Errors
    ///
    /// Whatever kept a node from joining, with the end of its log.
    pub fn start() -> io::Result<Option<Galera>> {
        let needed = [
            "usr/sbin/mariadbd",
            "usr/bin/mariadb",
            PROVIDER,
            "usr/bin/rsync",
        ];
        let Some(programs) = Programs::find(&needed) else {
            return Ok(None);
        };
        let dir = scratch("kvasir-galera-")?;
        // Every node starts with system tables; joining replaces them.
        let first = dir.path().join(data_dir(0));
        mariadb::install(&programs, &first)?;
        for node in 1..NODES {
            let other = dir.path().join(data_dir(node));
            run(Command::new("cp").arg("-a").arg(&first).arg(&other))?;
        }
        let ports = std::array::from_fn(|_| Ports {
            sql: free_port(),
            group: free_port(),
            incremental: free_port(),
            state: free_port(),
        });
        let mut cluster = Galera {
            nodes: [const { None }; NODES],
            ports,
            programs,
            dir,
        };
        cluster.start_node(0, true)?;
        cluster.admin(0, USER_SQL)?;
        for node in 1..NODES {
            cluster.start_node(node, false)?;
        }
        Ok(Some(cluster))
    }

    /// Ends one node at once, as a crash does.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node] = None;
    }

    /// Brings a crashed node back into the running cluster.
    ///
    /// # Errors
    ///
    /// As [`Galera::start`].
    pub fn restart(&mut self, node: usize) -> io::Result<()> {
        self.start_node(node, false)
    }

    /// Ends all nodes at once, then starts the cluster again from the node that got furthest: what
    /// an operator does after a power cut.
    ///
    /// # Errors
    ///
    /// As [`Galera::start`].
    pub fn crash_all_and_recover(&mut self) -> io::Result<()> {
        for process in self.nodes.iter_mut().flatten() {
            process.kill();
        }
        self.nodes = [const { None }; NODES];
        let mut positions = Vec::new();
        for node in 0..NODES {
            positions.push((self.recovered_position(node)?, node));
        }
        let (_, first) = positions.into_iter().max().unwrap_or_default();
        let state = self.dir.path().join(data_dir(first)).join("grastate.dat");
        let text = std::fs::read_to_string(&state)?;
        std::fs::write(
            &state,
            text.replace("safe_to_bootstrap: 0", "safe_to_bootstrap: 1"),
        )?;
        self.start_node(first, true)?;
        for node in (0..NODES).filter(|&node| node != first) {
            self.start_node(node, false)?;
        }
        Ok(())
    }

    /// How far a stopped node had got.
    fn recovered_position(&self, node: usize) -> io::Result<i64> {
        let ports = self.ports[node];
        let mut command =
            mariadb::server_command(&self.programs, self.dir.path(), &data_dir(node), ports.sql);
        let output = command
            .arg("--wsrep-on=ON")
            .arg(format!(
                "--wsrep-provider={}",
                self.programs.path(PROVIDER).display()
            ))
            .arg("--wsrep-cluster-address=gcomm://")
            .args(["--binlog-format=ROW", "--innodb-autoinc-lock-mode=2"])
            .arg("--wsrep-recover")
            .output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        let position = text
            .lines()
            .find_map(|line| line.split_once("Recovered position: "))
            .and_then(|(_, position)| position.trim().rsplit(':').next()?.parse().ok());
        position.ok_or_else(|| io::Error::other(format!("no position of node {node}: {text}")))
    }

    /// Process ids of the running nodes.
    pub(super) fn ids(&self) -> Vec<u32> {
        self.nodes.iter().flatten().map(Process::id).collect()
    }

    /// Their folder.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The SQL ports, in node order.
    pub fn sql_ports(&self) -> [u16; NODES] {
        self.ports.map(|ports| ports.sql)
    }

    /// URL of a new, empty database, with all nodes in node order.
    ///
    /// # Errors
    ///
    /// If the cluster refuses to create it.
    pub fn fresh_url(&self) -> io::Result<String> {
        let name = fresh_name();
        self.admin(0, &format!("CREATE DATABASE {name}"))?;
        let hosts = self.ports.map(|ports| format!("127.0.0.1:{}", ports.sql));
        Ok(format!("mysql://kv:kv@{}/{name}", hosts.join(",")))
    }

    /// Runs statements on one node as the administrator and returns what they print.
    ///
    /// # Errors
    ///
    /// The text of the client program.
    pub fn admin(&self, node: usize, statements: &str) -> io::Result<String> {
        mariadb::sql(&self.programs, self.ports[node].sql, statements)
    }

    fn start_node(&mut self, node: usize, is_first: bool) -> io::Result<()> {
        self.nodes[node] = None;
        let ports = self.ports[node];
        let data = data_dir(node);
        let mut command =
            mariadb::server_command(&self.programs, self.dir.path(), &data, ports.sql);
        let address = if is_first {
            "gcomm://".to_owned()
        } else {
            let groups = self.ports.map(|ports| format!("127.0.0.1:{}", ports.group));
            format!("gcomm://{}", groups.join(","))
        };
        let folder = self.dir.path().join(&data);
        command
            .args([
                "--binlog-format=ROW",
                "--innodb-autoinc-lock-mode=2",
                "--transaction-isolation=READ-COMMITTED",
                "--wsrep-on=ON",
                "--wsrep-cluster-name=kvasir-test",
                "--wsrep-sst-method=rsync",
                "--wsrep-slave-threads=2",
            ])
            .arg(format!("--server-id={}", node + 1))
            .arg(format!(
                "--wsrep-provider={}",
                self.programs.path(PROVIDER).display()
            ))
            .arg(format!("--wsrep-node-name=n{node}"))
            .arg(format!("--wsrep-node-address=127.0.0.1:{}", ports.group))
            .arg(format!(
                "--wsrep-sst-receive-address=127.0.0.1:{}",
                ports.state
            ))
            .arg(format!(
                "--wsrep-provider-options=gmcast.listen_addr=tcp://127.0.0.1:{};\
                 ist.recv_addr=127.0.0.1:{};gcache.dir={};gcache.size=64M;{FAST_FAILURE_DETECTOR}",
                ports.group,
                ports.incremental,
                folder.display(),
            ))
            .arg(format!("--wsrep-cluster-address={address}"));
        if is_first {
            command.arg("--wsrep-new-cluster");
        }
        let mut process = Process::start(command, self.dir.path().join(format!("n{node}.log")))?;
        let (programs, port) = (self.programs.clone(), ports.sql);
        process.wait_until("the Galera node", || {
            let state = "SHOW STATUS LIKE 'wsrep_local_state_comment'";
            mariadb::sql(&programs, port, state).is_ok_and(|text| text.contains("Synced"))
        })?;
        self.nodes[node] = Some(process);
        Ok(())
    }
}

/// Finds a dead node in under 2.6 s instead of 6 s.
const FAST_FAILURE_DETECTOR: &str = "evs.keepalive_period=PT0.5S;evs.inactive_check_period=PT0.25S;\
    evs.suspect_timeout=PT1.5S;evs.inactive_timeout=PT3S;evs.install_timeout=PT3S";

fn data_dir(node: usize) -> String {
    format!("d{node}")
}
