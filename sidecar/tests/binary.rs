//! The binary without a database: what it says, and that it stops when it is told to.
//!
//! Because these tests are here, cargo builds the binary whenever it builds this package's tests.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Nobody listens on this port.
const NOWHERE: &str = "postgres://x@127.0.0.1:1/x?sslmode=disable";

fn integratedb(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_integratedb"));
    command.args(arguments).env_remove("INTEGRATEDB_DATABASE_URL").stdin(Stdio::null());
    command
}

fn serve() -> Command {
    integratedb(&["serve", "--listen", "127.0.0.1:0", "--database", NOWHERE])
}

fn stderr_of(mut command: Command) -> String {
    let output = command.output().expect("the binary is there");
    assert_eq!(output.status.code(), Some(2));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn variables_of_others_are_warned_about_and_ignored() {
    let mut command = serve();
    // As Kubernetes sets them for a service of this name.
    command.args(["--database-wait-secs", "0"]).env("INTEGRATEDB_PORT", "tcp://10.0.0.1:4000");
    let told = stderr_of(command);
    assert!(told.contains("INTEGRATEDB_PORT") && told.contains("does not answer"), "{told}");
}

#[test]
fn a_setting_that_cannot_be_is_named() {
    for (arguments, named) in [
        (&["--log", "info,=,x=nonsense"][..], "the setting log"),
        (&["--config", "/nowhere/integratedb.toml"], "/nowhere/integratedb.toml"),
        (&["--database", "postgres://h/d?sslmode=maybe"], "sslmode"),
    ] {
        let mut command = integratedb(&["serve", "--listen", "127.0.0.1:0"]);
        command.args(arguments);
        if !arguments.contains(&"--database") {
            command.args(["--database", NOWHERE]);
        }
        let told = stderr_of(command);
        assert!(told.contains(named), "{told}");
    }
}

#[test]
fn a_url_that_cannot_be_read_is_not_shown() {
    for url in ["postgres://u:hunter2@h:port/d", "password='hunter2", "host=h hunter2 user=u"] {
        let told = stderr_of(integratedb(&["who-uses", "a.b", "--database", url]));
        assert!(!told.contains("hunter2"), "{told}");
        assert!(told.contains("database URL can't be used"), "{told}");
    }
}

#[test]
fn it_stops_when_told_to_while_it_waits_for_the_database() {
    let mut server = serve().stderr(Stdio::piped()).spawn().expect("the binary is there");
    let stderr = server.stderr.take().expect("it is piped");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stderr));
    let waits =
        |line: std::io::Result<String>| line.expect("text").contains("waiting for the database");
    assert!(lines.any(waits), "it waits for the database");
    assert!(server.try_wait().expect("our child").is_none(), "it still does");

    let told = Command::new("kill").arg(server.id().to_string()).status().expect("kill is there");
    assert!(told.success());

    let deadline = Instant::now() + Duration::from_secs(5);
    let status = loop {
        match server.try_wait().expect("our child") {
            Some(status) => break status,
            None if Instant::now() > deadline => {
                let _ = server.kill();
                panic!("it goes on");
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    assert!(status.success(), "{status}");
}

#[test]
fn help_teaches_every_setting() {
    let output = integratedb(&["serve", "--help"]).output().expect("the binary is there");
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    for flag in [
        "--database",
        "--listen",
        "--database-connections",
        "--database-wait-secs",
        "--statement-timeout-secs",
        "--request-timeout-secs",
        "--max-body-bytes",
        "--token-secs",
        "--refresh-token-secs",
        "--login-attempts-per-user",
        "--login-attempts-per-address",
        "--drain-secs",
        "--proxy-listen",
        "SIGHUP",
        "--log-format",
        "--log",
        "sslrootcert",
        "INTEGRATEDB_DATABASE_URL",
    ] {
        assert!(help.contains(flag), "{flag}: {help}");
    }
}

#[test]
fn the_proxy_listens_whether_or_not_the_database_answers() {
    let mut command = serve();
    command.args(["--database-wait-secs", "0", "--proxy-listen", "127.0.0.1:0"]);
    let told = stderr_of(command);
    assert!(told.contains("the proxy listens") && told.contains("does not answer"), "{told}");
}

#[test]
fn its_configuration_is_read_again_when_it_is_told_to() {
    let file = std::env::temp_dir().join(format!("integratedb-reload-{}.toml", std::process::id()));
    let write = |origin: &str| {
        let text = format!("[proxy]\nlisten = '127.0.0.1:0'\n[caches.shop]\norigin = '{origin}'\n");
        std::fs::write(&file, text).expect("the temp dir is writable");
    };
    write("host=127.0.0.1");
    let mut command = serve();
    command.arg("--config").arg(&file).stderr(Stdio::piped());
    let mut server = command.spawn().expect("the binary is there");
    let stderr = server.stderr.take().expect("it is piped");
    let lines = std::io::BufRead::lines(std::io::BufReader::new(stderr));
    let mut lines = lines.map(|line| line.expect("it is text"));
    let mut wait_for = |text: &str| lines.any(|line| line.contains(text));
    let hang_up = || {
        let pid = server.id().to_string();
        assert!(
            Command::new("kill").args(["-HUP", &pid]).status().expect("kill is there").success()
        );
    };
    // By then it watches for signals.
    assert!(wait_for("waiting for the database"));
    hang_up();
    assert!(wait_for("the configuration was read again"));
    write("host=127.0.0.1 user=nobody");
    hang_up();
    assert!(wait_for("the new configuration can't be used"));
    server.kill().expect("it runs");
    server.wait().expect("our child");
    std::fs::remove_file(file).expect("it was written above");
}
