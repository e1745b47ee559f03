//! Looking into Postgres's parse trees.

use std::ffi::CStr;

use pgrx::pg_sys;

/// The members of a list of pointers.
///
/// # Safety
/// `list` is null or a list of pointers to `T`, and outlives the iterator.
pub(super) unsafe fn items<T>(list: *mut pg_sys::List) -> impl Iterator<Item = *mut T> {
    // SAFETY: as the caller promises; `length` cells are in use.
    let length = if list.is_null() { 0 } else { unsafe { (*list).length } };
    (0..usize::try_from(length).unwrap_or(0))
        .map(move |at| unsafe { (*(*list).elements.add(at)).ptr_value.cast::<T>() })
}

/// The members of a list of oids.
///
/// # Safety
/// As for [`items`].
pub(super) unsafe fn oids(list: *mut pg_sys::List) -> impl Iterator<Item = pg_sys::Oid> {
    // SAFETY: as the caller promises.
    let length = if list.is_null() { 0 } else { unsafe { (*list).length } };
    (0..usize::try_from(length).unwrap_or(0))
        .map(move |at| unsafe { (*(*list).elements.add(at)).oid_value })
}

/// The node as a `T`, if its tag says that it is one.
///
/// # Safety
/// `node` is null or a node, and `T` is the struct of `tag`.
pub(super) unsafe fn cast<'a, T>(node: *mut pg_sys::Node, tag: pg_sys::NodeTag) -> Option<&'a T> {
    // SAFETY: as the caller promises.
    unsafe { (!node.is_null() && (*node).type_ == tag).then(|| &*node.cast::<T>()) }
}

/// A C string that Postgres allocated.
///
/// # Safety
/// `text` is null or a string that ends with NUL.
pub(super) unsafe fn text(text: *const std::ffi::c_char) -> Option<String> {
    // SAFETY: as the caller promises.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

/// An entry of a range table, which counts from 1.
///
/// # Safety
/// `query` is a query.
pub(super) unsafe fn entry(
    query: *mut pg_sys::Query,
    index: i32,
) -> Option<*mut pg_sys::RangeTblEntry> {
    let at = usize::try_from(index).ok()?.checked_sub(1)?;
    // SAFETY: as the caller promises; a range table is a list of entries.
    unsafe { items((*query).rtable).nth(at) }
}
