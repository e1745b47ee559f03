//! What reading and writing the values of a type depends on.

use pgrx::{PgTupleDesc, pg_sys};

use super::judge::{Function, Judgement};
use super::node::text;

/// What the conversion of a value to or from text depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Conversion {
    /// Nothing but the value and what is in an entry's key.
    Plain,
    /// The clock: the text may be `now`.
    Clock,
    /// Code that is not Postgres's own, or something that replication does not see.
    Foreign(String),
}

/// Which way a value is converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    In,
    Out,
}

/// Looks through domains, arrays, ranges and composite types to the types that are converted.
pub(super) fn conversion(oid: pg_sys::Oid, way: Way) -> Conversion {
    bounded(oid, way, 8)
}

fn bounded(oid: pg_sys::Oid, way: Way, depth: u8) -> Conversion {
    if oid == pg_sys::InvalidOid || oid == pg_sys::RECORDOID || oid == pg_sys::UNKNOWNOID {
        return Conversion::Plain;
    }
    let Some(depth) = depth.checked_sub(1) else {
        return Conversion::Foreign("a type".to_owned());
    };
    // SAFETY: these functions take the oid of any type, and raise an error where there is none.
    unsafe {
        let base = pg_sys::getBaseType(oid);
        let element = pg_sys::get_element_type(base);
        if element != pg_sys::InvalidOid {
            return bounded(element, way, depth);
        }
        match pg_sys::get_typtype(base) as u8 {
            b'e' | b'p' => Conversion::Plain,
            b'r' => bounded(pg_sys::get_range_subtype(base), way, depth),
            b'm' => bounded(pg_sys::get_multirange_range(base), way, depth),
            b'c' => columns(base)
                .into_iter()
                .map(|column| bounded(column, way, depth))
                .find(|conversion| *conversion != Conversion::Plain)
                .unwrap_or(Conversion::Plain),
            _ => by_function(base, way),
        }
    }
}

fn by_function(oid: pg_sys::Oid, way: Way) -> Conversion {
    let (mut function, mut parameter, mut varlena) =
        (pg_sys::InvalidOid, pg_sys::InvalidOid, false);
    // SAFETY: the pointers are to variables of the right types.
    unsafe {
        match way {
            Way::In => pg_sys::getTypeInputInfo(oid, &mut function, &mut parameter),
            Way::Out => pg_sys::getTypeOutputInfo(oid, &mut function, &mut varlena),
        }
    }
    match Function::read(function).and_then(|known| known.judgement(function)) {
        Some(Judgement::Same) => Conversion::Plain,
        Some(Judgement::Clock) => Conversion::Clock,
        _ => {
            // SAFETY: format_type_be allocates a string for any oid.
            let name = unsafe { text(pg_sys::format_type_be(oid)) };
            Conversion::Foreign(name.unwrap_or_default())
        }
    }
}

/// The types of the columns of a composite type.
fn columns(oid: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    PgTupleDesc::for_composite_type_by_oid(oid).map_or_else(Vec::new, |descriptor| {
        descriptor.iter().filter(|one| !one.attisdropped).map(|one| one.atttypid).collect()
    })
}
