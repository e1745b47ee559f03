//! The types that every server has. Their OIDs never change (`pg_type.dat` of PostgreSQL).

use std::collections::HashMap;
use std::sync::Arc;

use super::JsonType;
use super::array::Array;
use super::value::Kind;

/// Types that are more than strings, and the arrays of them.
const SPECIAL: [(u32, u32, Kind); 14] = [
    (16, 1000, Kind::Bool),          // bool
    (20, 1016, Kind::Number),        // int8
    (21, 1005, Kind::Number),        // int2
    (22, 1006, Kind::NumberVector),  // int2vector
    (23, 1007, Kind::Number),        // int4
    (30, 1013, Kind::TextVector),    // oidvector
    (114, 199, Kind::Json),          // json
    (700, 1021, Kind::Number),       // float4
    (701, 1022, Kind::Number),       // float8
    (1082, 1182, Kind::Date),        // date
    (1114, 1115, Kind::Timestamp),   // timestamp
    (1184, 1185, Kind::TimestampTz), // timestamptz
    (1700, 1231, Kind::Number),      // numeric
    (3802, 3807, Kind::Json),        // jsonb
];

/// The box and its array: the one type whose elements are not parted by commas.
const BOX: (u32, u32) = (603, 1020);

/// All others, which are strings, and the arrays of them, or 0 where there is none.
const TEXT: [(u32, u32); 67] = [
    (17, 1001),   // bytea
    (18, 1002),   // char
    (19, 1003),   // name
    (24, 1008),   // regproc
    (25, 1009),   // text
    (26, 1028),   // oid
    (27, 1010),   // tid
    (28, 1011),   // xid
    (29, 1012),   // cid
    (142, 143),   // xml
    (194, 0),     // pg_node_tree
    (600, 1017),  // point
    (601, 1018),  // lseg
    (602, 1019),  // path
    (604, 1027),  // polygon
    (628, 629),   // line
    (650, 651),   // cidr
    (718, 719),   // circle
    (774, 775),   // macaddr8
    (790, 791),   // money
    (829, 1040),  // macaddr
    (869, 1041),  // inet
    (1033, 1034), // aclitem
    (1042, 1014), // bpchar
    (1043, 1015), // varchar
    (1083, 1183), // time
    (1186, 1187), // interval
    (1266, 1270), // timetz
    (1560, 1561), // bit
    (1562, 1563), // varbit
    (1790, 2201), // refcursor
    (2202, 2207), // regprocedure
    (2203, 2208), // regoper
    (2204, 2209), // regoperator
    (2205, 2210), // regclass
    (2206, 2211), // regtype
    (2950, 2951), // uuid
    (2970, 2949), // txid_snapshot
    (3220, 3221), // pg_lsn
    (3361, 0),    // pg_ndistinct
    (3402, 0),    // pg_dependencies
    (3614, 3643), // tsvector
    (3615, 3645), // tsquery
    (3642, 3644), // gtsvector
    (3734, 3735), // regconfig
    (3769, 3770), // regdictionary
    (3904, 3905), // int4range
    (3906, 3907), // numrange
    (3908, 3909), // tsrange
    (3910, 3911), // tstzrange
    (3912, 3913), // daterange
    (3926, 3927), // int8range
    (4072, 4073), // jsonpath
    (4089, 4090), // regnamespace
    (4096, 4097), // regrole
    (4191, 4192), // regcollation
    (4451, 6150), // int4multirange
    (4532, 6151), // nummultirange
    (4533, 6152), // tsmultirange
    (4534, 6153), // tstzmultirange
    (4535, 6155), // datemultirange
    (4536, 6157), // int8multirange
    (4600, 0),    // pg_brin_bloom_summary
    (4601, 0),    // pg_brin_minmax_multi_summary
    (5017, 0),    // pg_mcv_list
    (5038, 5039), // pg_snapshot
    (5069, 271),  // xid8
];

/// All of them, by OID.
pub(super) fn types() -> HashMap<u32, JsonType> {
    let mut types = HashMap::new();
    let mut add = |of: u32, array: u32, kind: Kind, delimiter: u8| {
        if array != 0 {
            let array_type = Arc::new(Array::new(kind.clone().into(), delimiter));
            types.insert(array, Kind::Array(array_type).into());
        }
        types.insert(of, kind.into());
    };
    for (of, array, kind) in SPECIAL {
        add(of, array, kind, b',');
    }
    for (of, array) in TEXT {
        add(of, array, Kind::Text, b',');
    }
    add(BOX.0, BOX.1, Kind::Text, b';');
    types
}
