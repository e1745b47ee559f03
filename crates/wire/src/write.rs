//! Functions that append a message to a buffer. One that fails leaves the buffer as it was.

use crate::{Error, ProtocolVersion, Target, TransactionStatus, tag};

/// Appends a message of any type whose body `fill` appends.
fn message(
    buffer: &mut Vec<u8>,
    tag: Option<u8>,
    fill: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>,
) -> Result<(), Error> {
    let start = buffer.len();
    buffer.extend(tag);
    let length_at = buffer.len();
    buffer.extend([0; 4]);
    let result = fill(buffer).and_then(|()| {
        let length = buffer.len() - length_at;
        i32::try_from(length).map_err(|_| Error::TooLong(length))
    });
    match result {
        Ok(length) => {
            buffer[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
            Ok(())
        }
        Err(error) => {
            buffer.truncate(start);
            Err(error)
        }
    }
}

/// For bodies that have a fixed, small size.
fn small(buffer: &mut Vec<u8>, tag: u8, body: &[u8]) {
    debug_assert!(body.len() < 1 << 16);
    buffer.push(tag);
    buffer.extend((4 + body.len() as u32).to_be_bytes());
    buffer.extend(body);
}

fn string(buffer: &mut Vec<u8>, text: &[u8]) -> Result<(), Error> {
    if text.contains(&0) {
        return Err(Error::Nul);
    }
    buffer.extend(text);
    buffer.push(0);
    Ok(())
}

/// A value with its length before it.
fn value(buffer: &mut Vec<u8>, content: Option<&[u8]>) -> Result<(), Error> {
    let Some(content) = content else {
        buffer.extend((-1_i32).to_be_bytes());
        return Ok(());
    };
    let length = i32::try_from(content.len()).map_err(|_| Error::TooLong(content.len()))?;
    buffer.extend(length.to_be_bytes());
    buffer.extend(content);
    Ok(())
}

/// A header alone, for a body of `length` bytes that follows by other ways.
///
/// Errors when the length is not one that a message can have.
pub fn header(buffer: &mut Vec<u8>, tag: u8, length: usize) -> Result<(), Error> {
    let total =
        length.checked_add(4).and_then(|n| i32::try_from(n).ok()).ok_or(Error::TooLong(length))?;
    buffer.push(tag);
    buffer.extend(total.to_be_bytes());
    Ok(())
}

/// Messages of clients.
pub mod frontend {
    use super::{Error, ProtocolVersion, Target, header, message, small, string, value};
    use crate::tag::frontend as tag;

    /// The packet that begins a session.
    pub fn startup<'a>(
        buffer: &mut Vec<u8>,
        version: ProtocolVersion,
        parameters: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<(), Error> {
        message(buffer, None, |buffer| {
            buffer.extend(version.major.to_be_bytes());
            buffer.extend(version.minor.to_be_bytes());
            for (name, value) in parameters {
                string(buffer, name)?;
                string(buffer, value)?;
            }
            buffer.push(0);
            Ok(())
        })
    }

    /// The packet that asks for TLS.
    pub fn ssl_request(buffer: &mut Vec<u8>) {
        buffer.extend([0, 0, 0, 8]);
        buffer.extend(80_877_103_u32.to_be_bytes());
    }

    /// The packet that asks for a query to be cancelled.
    pub fn cancel_request(buffer: &mut Vec<u8>, process: u32, key: &[u8]) -> Result<(), Error> {
        message(buffer, None, |buffer| {
            buffer.extend(80_877_102_u32.to_be_bytes());
            buffer.extend(process.to_be_bytes());
            buffer.extend(key);
            Ok(())
        })
    }

    /// Query
    pub fn query(buffer: &mut Vec<u8>, text: &[u8]) -> Result<(), Error> {
        message(buffer, Some(tag::QUERY), |buffer| string(buffer, text))
    }

    /// Parse; `types` are OIDs of four bytes each, as [`crate::Oids::bytes`] gives them.
    pub fn parse(
        buffer: &mut Vec<u8>,
        name: &[u8],
        text: &[u8],
        types: &[u8],
    ) -> Result<(), Error> {
        message(buffer, Some(tag::PARSE), |buffer| {
            string(buffer, name)?;
            string(buffer, text)?;
            let count = i16::try_from(types.len() / 4).map_err(|_| Error::Value)?;
            buffer.extend(count.to_be_bytes());
            buffer.extend(types);
            Ok(())
        })
    }

    /// Type, length and names of a Bind whose other `rest` bytes follow by other ways.
    pub fn bind_head(
        buffer: &mut Vec<u8>,
        portal: &[u8],
        statement: &[u8],
        rest: usize,
    ) -> Result<(), Error> {
        header(buffer, tag::BIND, portal.len() + statement.len() + 2 + rest)?;
        buffer.extend(portal);
        buffer.push(0);
        buffer.extend(statement);
        buffer.push(0);
        Ok(())
    }

    /// Bind with parameters and results all in text; a parameter of `None` is NULL.
    pub fn bind_text(
        buffer: &mut Vec<u8>,
        portal: &[u8],
        statement: &[u8],
        values: &[Option<&[u8]>],
    ) -> Result<(), Error> {
        message(buffer, Some(tag::BIND), |buffer| {
            string(buffer, portal)?;
            string(buffer, statement)?;
            buffer.extend([0, 0]);
            let count = i16::try_from(values.len()).map_err(|_| Error::Value)?;
            buffer.extend(count.to_be_bytes());
            for content in values {
                value(buffer, *content)?;
            }
            buffer.extend([0, 0]);
            Ok(())
        })
    }

    /// Describe
    pub fn describe(buffer: &mut Vec<u8>, target: Target, name: &[u8]) -> Result<(), Error> {
        message(buffer, Some(tag::DESCRIBE), |buffer| {
            buffer.push(target.byte());
            string(buffer, name)
        })
    }

    /// Execute
    pub fn execute(buffer: &mut Vec<u8>, portal: &[u8], max_rows: i32) -> Result<(), Error> {
        message(buffer, Some(tag::EXECUTE), |buffer| {
            string(buffer, portal)?;
            buffer.extend(max_rows.to_be_bytes());
            Ok(())
        })
    }

    /// Close
    pub fn close(buffer: &mut Vec<u8>, target: Target, name: &[u8]) -> Result<(), Error> {
        message(buffer, Some(tag::CLOSE), |buffer| {
            buffer.push(target.byte());
            string(buffer, name)
        })
    }

    /// Flush
    pub fn flush(buffer: &mut Vec<u8>) {
        small(buffer, tag::FLUSH, &[]);
    }

    /// Sync
    pub fn sync(buffer: &mut Vec<u8>) {
        small(buffer, tag::SYNC, &[]);
    }

    /// FunctionCall of the function with this OID, with arguments in text; `None` is NULL. The result comes in
    /// binary if `is_binary`.
    pub fn function_call(
        buffer: &mut Vec<u8>,
        function: u32,
        arguments: &[Option<&[u8]>],
        is_binary: bool,
    ) -> Result<(), Error> {
        message(buffer, Some(tag::FUNCTION_CALL), |buffer| {
            buffer.extend(function.to_be_bytes());
            buffer.extend(0_i16.to_be_bytes());
            let count = i16::try_from(arguments.len()).map_err(|_| Error::Value)?;
            buffer.extend(count.to_be_bytes());
            for argument in arguments {
                value(buffer, *argument)?;
            }
            buffer.extend(i16::from(is_binary).to_be_bytes());
            Ok(())
        })
    }

    /// Terminate
    pub fn terminate(buffer: &mut Vec<u8>) {
        small(buffer, tag::TERMINATE, &[]);
    }

    /// SASLInitialResponse
    pub fn sasl_initial(buffer: &mut Vec<u8>, mechanism: &str, data: &[u8]) -> Result<(), Error> {
        message(buffer, Some(tag::PASSWORD), |buffer| {
            string(buffer, mechanism.as_bytes())?;
            let length = i32::try_from(data.len()).map_err(|_| Error::TooLong(data.len()))?;
            buffer.extend(length.to_be_bytes());
            buffer.extend(data);
            Ok(())
        })
    }

    /// SASLResponse
    pub fn sasl_response(buffer: &mut Vec<u8>, data: &[u8]) -> Result<(), Error> {
        message(buffer, Some(tag::PASSWORD), |buffer| {
            buffer.extend(data);
            Ok(())
        })
    }
}

/// Messages of servers.
pub mod backend {
    use super::{Error, TransactionStatus, message, small, string, tag::backend as tag};
    use crate::ErrorField;

    /// AuthenticationOk
    pub fn authentication_ok(buffer: &mut Vec<u8>) {
        small(buffer, tag::AUTHENTICATION, &[0, 0, 0, 0]);
    }

    /// AuthenticationSASL
    pub fn authentication_sasl<'a>(
        buffer: &mut Vec<u8>,
        mechanisms: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), Error> {
        message(buffer, Some(tag::AUTHENTICATION), |buffer| {
            buffer.extend(10_u32.to_be_bytes());
            for mechanism in mechanisms {
                string(buffer, mechanism)?;
            }
            buffer.push(0);
            Ok(())
        })
    }

    /// AuthenticationSASLContinue
    pub fn authentication_sasl_continue(buffer: &mut Vec<u8>, data: &[u8]) -> Result<(), Error> {
        message(buffer, Some(tag::AUTHENTICATION), |buffer| {
            buffer.extend(11_u32.to_be_bytes());
            buffer.extend(data);
            Ok(())
        })
    }

    /// AuthenticationSASLFinal
    pub fn authentication_sasl_final(buffer: &mut Vec<u8>, data: &[u8]) -> Result<(), Error> {
        message(buffer, Some(tag::AUTHENTICATION), |buffer| {
            buffer.extend(12_u32.to_be_bytes());
            buffer.extend(data);
            Ok(())
        })
    }

    /// BackendKeyData
    pub fn backend_key_data(buffer: &mut Vec<u8>, process: u32, key: &[u8]) -> Result<(), Error> {
        message(buffer, Some(tag::BACKEND_KEY_DATA), |buffer| {
            buffer.extend(process.to_be_bytes());
            buffer.extend(key);
            Ok(())
        })
    }

    /// NegotiateProtocolVersion
    pub fn negotiate_version(
        buffer: &mut Vec<u8>,
        minor: u16,
        unknown_options: &[&[u8]],
    ) -> Result<(), Error> {
        message(buffer, Some(tag::NEGOTIATE_VERSION), |buffer| {
            // The whole version, as servers write it since the message is used at all.
            buffer.extend((3 << 16 | u32::from(minor)).to_be_bytes());
            let count = u32::try_from(unknown_options.len()).map_err(|_| Error::Value)?;
            buffer.extend(count.to_be_bytes());
            unknown_options.iter().try_for_each(|option| string(buffer, option))
        })
    }

    /// ParameterStatus
    pub fn parameter_status(buffer: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Result<(), Error> {
        message(buffer, Some(tag::PARAMETER_STATUS), |buffer| {
            string(buffer, name)?;
            string(buffer, value)
        })
    }

    /// ReadyForQuery
    pub fn ready(buffer: &mut Vec<u8>, status: TransactionStatus) {
        small(buffer, tag::READY, &[status.byte()]);
    }

    /// BindComplete
    pub fn bind_complete(buffer: &mut Vec<u8>) {
        small(buffer, tag::BIND_COMPLETE, &[]);
    }

    /// NoData
    pub fn no_data(buffer: &mut Vec<u8>) {
        small(buffer, tag::NO_DATA, &[]);
    }

    /// ParseComplete
    pub fn parse_complete(buffer: &mut Vec<u8>) {
        small(buffer, tag::PARSE_COMPLETE, &[]);
    }

    /// CloseComplete
    pub fn close_complete(buffer: &mut Vec<u8>) {
        small(buffer, tag::CLOSE_COMPLETE, &[]);
    }

    /// CommandComplete
    pub fn command_complete(buffer: &mut Vec<u8>, text: &str) -> Result<(), Error> {
        message(buffer, Some(tag::COMMAND_COMPLETE), |buffer| string(buffer, text.as_bytes()))
    }

    /// ErrorResponse
    pub fn error<'a>(
        buffer: &mut Vec<u8>,
        fields: impl IntoIterator<Item = (ErrorField, &'a str)>,
    ) -> Result<(), Error> {
        message(buffer, Some(tag::ERROR), |buffer| {
            for (field, text) in fields {
                buffer.push(field.0);
                string(buffer, text.as_bytes())?;
            }
            buffer.push(0);
            Ok(())
        })
    }
}
