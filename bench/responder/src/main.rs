//! What a hit of a cache is measured against: lets any Postgres client in without a password, and answers every
//! query with the same row without looking at it. One thread, as a worker of the proxy is.
//!
//! `integratedb-responder 127.0.0.1:PORT`

mod messages;

use std::io;
use std::process::ExitCode;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Longer than any message of a point lookup; a client that sends a longer one is not ours.
const ROOM: usize = 16 << 10;

fn main() -> ExitCode {
    let Some(address) = std::env::args().nth(1) else {
        eprintln!("usage: integratedb-responder ADDRESS:PORT");
        return ExitCode::from(2);
    };
    match run(&address) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("can't answer at {address}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(address: &str) -> io::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind(address).await?;
        loop {
            let (client, _) = listener.accept().await?;
            tokio::spawn(async move {
                // A client that goes or talks nonsense is the client's own affair.
                let _ = serve(client).await;
            });
        }
    })
}

async fn serve(mut client: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    if !log_in(&mut client).await? {
        return Ok(());
    }
    let answers = messages::Answers::new();
    let mut heard = vec![0; ROOM];
    let mut length = 0;
    let mut said = Vec::with_capacity(ROOM);
    loop {
        let read = client.read(&mut heard[length..]).await?;
        if read == 0 {
            return Ok(());
        }
        length += read;
        let mut done = 0;
        while let Some((kind, whole)) = messages::next(&heard[done..length]) {
            if whole > ROOM || kind == b'X' {
                return Ok(());
            }
            if length - done < whole {
                break;
            }
            answers.to(kind, &heard[done..done + whole], &mut said);
            done += whole;
        }
        heard.copy_within(done..length, 0);
        length -= done;
        if !said.is_empty() {
            client.write_all(&said).await?;
            said.clear();
        }
    }
}

/// False for a client that wanted something else than a session.
async fn log_in(client: &mut TcpStream) -> io::Result<bool> {
    loop {
        let length = client.read_u32().await? as usize;
        if !(8..=ROOM).contains(&length) {
            return Ok(false);
        }
        let code = client.read_u32().await?;
        client.read_exact(&mut vec![0; length - 8]).await?;
        match code {
            messages::TLS | messages::GSS => client.write_all(b"N").await?,
            messages::CANCEL => return Ok(false),
            _ => break,
        }
    }
    client.write_all(&messages::welcome()).await?;
    Ok(true)
}
