//! Database servers that are too old, as far as a client can tell: they speak the handshake and
//! answer the first questions, and know nothing else.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

/// A server on a free loopback port that calls itself something old. It lives as long as the
/// process of the test.
#[derive(Clone, Copy, Debug)]
pub struct OldServer {
    port: u16,
}

impl OldServer {
    /// A server of the MySQL protocol with this version text, such as `10.2.44-MariaDB`.
    ///
    /// # Panics
    ///
    /// If no port is free.
    pub fn mysql(version: &'static str) -> OldServer {
        OldServer::start(move |stream| mysql(stream, version))
    }

    /// A server of the PostgreSQL protocol with this number, such as 90_624 for 9.6.24.
    ///
    /// # Panics
    ///
    /// If no port is free.
    pub fn postgres(number: i64) -> OldServer {
        OldServer::start(move |stream| postgres(stream, number))
    }

    /// The port on 127.0.0.1.
    pub fn port(self) -> u16 {
        self.port
    }

    fn start(serve: impl Fn(TcpStream) -> io::Result<()> + Clone + Send + 'static) -> OldServer {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener
            .local_addr()
            .expect("a bound socket has an address")
            .port();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serve = serve.clone();
                // The client going away ends it.
                thread::spawn(move || serve(stream));
            }
        });
        OldServer { port }
    }
}

// ---- MySQL: packets of a three-byte length, a number, and the payload ----------------------------

/// `CLIENT_CONNECT_WITH_DB | CLIENT_PROTOCOL_41 | CLIENT_TRANSACTIONS | CLIENT_SECURE_CONNECTION`,
/// and, shifted by 16, `CLIENT_PLUGIN_AUTH`.
const CAPABILITIES: (u16, u16) = (0x0008 | 0x0200 | 0x2000 | 0x8000, 0x0008);

const COM_QUIT: u8 = 0x01;
const COM_QUERY: u8 = 0x03;

/// `MYSQL_TYPE_LONGLONG` and `MYSQL_TYPE_VAR_STRING`.
const LONGLONG: u8 = 0x08;
const VAR_STRING: u8 = 0xfd;

fn mysql(mut stream: TcpStream, version: &str) -> io::Result<()> {
    let mut hello = vec![10];
    hello.extend_from_slice(version.as_bytes());
    hello.push(0);
    hello.extend_from_slice(&1_u32.to_le_bytes());
    hello.extend_from_slice(b"12345678\0");
    hello.extend_from_slice(&CAPABILITIES.0.to_le_bytes());
    hello.push(45); // utf8mb4_general_ci
    hello.extend_from_slice(&2_u16.to_le_bytes());
    hello.extend_from_slice(&CAPABILITIES.1.to_le_bytes());
    hello.push(21);
    hello.extend_from_slice(&[0; 10]);
    hello.extend_from_slice(b"123456789012\0mysql_native_password\0");
    write_packet(&mut stream, 0, &hello)?;
    let (number, _) = read_packet(&mut stream)?;
    write_ok(&mut stream, number + 1)?;
    loop {
        let (_, command) = read_packet(&mut stream)?;
        let text = String::from_utf8_lossy(command.get(1..).unwrap_or_default()).into_owned();
        match command.first() {
            None | Some(&COM_QUIT) => return Ok(()),
            Some(&COM_QUERY) if text.contains("VERSION()") => {
                let row = [version, "0", "67108864"];
                write_rows(&mut stream, &[VAR_STRING, LONGLONG, LONGLONG], &[&row])?;
            }
            Some(&COM_QUERY) if text.starts_with("SHOW") => {
                write_rows(&mut stream, &[VAR_STRING, VAR_STRING], &[])?;
            }
            Some(_) => write_ok(&mut stream, 1)?,
        }
    }
}

fn read_packet(stream: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 4];
    stream.read_exact(&mut head)?;
    let length = u32::from_le_bytes([head[0], head[1], head[2], 0]);
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload)?;
    Ok((head[3], payload))
}

fn write_packet(stream: &mut TcpStream, number: u8, payload: &[u8]) -> io::Result<()> {
    let length = (payload.len() as u32).to_le_bytes();
    stream.write_all(&[length[0], length[1], length[2], number])?;
    stream.write_all(payload)
}

fn write_ok(stream: &mut TcpStream, number: u8) -> io::Result<()> {
    write_packet(stream, number, &[0, 0, 0, 2, 0, 0, 0])
}

fn write_rows(stream: &mut TcpStream, kinds: &[u8], rows: &[&[&str]]) -> io::Result<()> {
    let end_of_part = [0xfe, 0, 0, 2, 0];
    let mut number = 1;
    let mut write = |payload: &[u8]| {
        let written = write_packet(stream, number, payload);
        number += 1;
        written
    };
    write(&[kinds.len() as u8])?;
    for kind in kinds {
        let mut column = b"\x03def\0\0\0\x01c\x01c\x0c".to_vec();
        column.extend_from_slice(&45_u16.to_le_bytes());
        column.extend_from_slice(&255_u32.to_le_bytes());
        column.extend_from_slice(&[*kind, 0, 0, 0, 0, 0]);
        write(&column)?;
    }
    write(&end_of_part)?;
    for row in rows {
        let mut cells = Vec::new();
        for cell in *row {
            cells.push(cell.len() as u8);
            cells.extend_from_slice(cell.as_bytes());
        }
        write(&cells)?;
    }
    write(&end_of_part)
}

// ---- PostgreSQL: messages of a letter, a four-byte length, and the body -------------------------

const SSL_REQUEST: i32 = 80_877_103;

/// Type ids of `bigint` and `text`.
const INT8: i32 = 20;
const TEXT: i32 = 25;

fn postgres(mut stream: TcpStream, number: i64) -> io::Result<()> {
    loop {
        let body = read_body(&mut stream)?;
        if body.get(..4) != Some(&SSL_REQUEST.to_be_bytes()) {
            break;
        }
        stream.write_all(b"N")?;
    }
    write_message(&mut stream, b'R', &0_i32.to_be_bytes())?;
    write_message(&mut stream, b'S', b"server_version\0old\0")?;
    write_message(&mut stream, b'K', &[0; 8])?;
    write_message(&mut stream, b'Z', b"I")?;
    loop {
        let mut kind = [0];
        stream.read_exact(&mut kind)?;
        read_body(&mut stream)?;
        match kind[0] {
            b'Q' => {
                write_message(&mut stream, b'C', b"SET\0")?;
                write_message(&mut stream, b'Z', b"I")?;
            }
            b'P' => write_message(&mut stream, b'1', b"")?,
            b'D' => {
                write_message(&mut stream, b't', &0_i16.to_be_bytes())?;
                write_message(&mut stream, b'T', &columns(&[INT8, TEXT, TEXT, TEXT, TEXT]))?;
            }
            b'B' => write_message(&mut stream, b'2', b"")?,
            b'E' => {
                let version = format!(
                    "PostgreSQL {}.{} on old",
                    number / 10_000,
                    number % 10_000 / 100
                );
                let number = number.to_be_bytes();
                let row: [&[u8]; 5] = [&number, version.as_bytes(), b"false", b"off", b"on"];
                write_message(&mut stream, b'D', &cells(&row))?;
                write_message(&mut stream, b'C', b"SELECT 1\0")?;
            }
            b'C' => write_message(&mut stream, b'3', b"")?,
            b'S' => write_message(&mut stream, b'Z', b"I")?,
            b'X' => return Ok(()),
            _ => {}
        }
    }
}

fn columns(kinds: &[i32]) -> Vec<u8> {
    let mut body = (kinds.len() as i16).to_be_bytes().to_vec();
    for kind in kinds {
        body.extend_from_slice(b"c\0");
        body.extend_from_slice(&[0; 6]);
        body.extend_from_slice(&kind.to_be_bytes());
        body.extend_from_slice(&(-1_i16).to_be_bytes());
        body.extend_from_slice(&(-1_i32).to_be_bytes());
        body.extend_from_slice(&0_i16.to_be_bytes());
    }
    body
}

fn cells(row: &[&[u8]]) -> Vec<u8> {
    let mut body = (row.len() as i16).to_be_bytes().to_vec();
    for cell in row {
        body.extend_from_slice(&(cell.len() as i32).to_be_bytes());
        body.extend_from_slice(cell);
    }
    body
}

/// The rest of a message, whose length counts itself.
fn read_body(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let rest = u32::from_be_bytes(length).saturating_sub(4);
    let mut body = vec![0; rest as usize];
    stream.read_exact(&mut body)?;
    Ok(body)
}

fn write_message(stream: &mut TcpStream, kind: u8, body: &[u8]) -> io::Result<()> {
    stream.write_all(&[kind])?;
    stream.write_all(&(body.len() as u32 + 4).to_be_bytes())?;
    stream.write_all(body)
}
