//! Tables, chains and sets as netlink messages, with the user data that `nft` needs to list them well.
//!
//! The kernel stores the user data without reading it. `nft` (libnftnl `udata.h`) reads comments and byte orders from it.

use ferrolb_api::proxy_config::InterfaceName;
use netlink_packet_core::{DefaultNla, NLM_F_CREATE};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Hook as HookAttribute, HookNumber, InetHookNumber,
    NfTablesMessage, RuleAttribute, RuleMessage, SetAttribute, SetDescription, SetFlags,
    SetMessage, TableAttribute, TableMessage,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};

use super::super::netlink::Request;
use super::super::rule::{Chain, Data, Family, Field, HookPoint, SetDef};
use super::atom::{be32, nested};

/// A message to nfnetlink.
pub(crate) type Message = Request<NetfilterMessage>;

/// `nft`'s type numbers (`datatype.h`).
const TYPE_IPADDR: u32 = 7;
const TYPE_IP6ADDR: u32 = 8;
const TYPE_INET_PROTOCOL: u32 = 12;
const TYPE_INET_SERVICE: u32 = 13;
pub(super) const TYPE_ICMP: u32 = 14;
const TYPE_MARK: u32 = 19;
pub(super) const TYPE_ICMPV6: u32 = 29;
const TYPE_IFNAME: u32 = 41;
/// Each type in a concatenation takes six bits.
const TYPE_BITS: u32 = 6;
/// `NFT_DATA_VERDICT`.
const DATA_VERDICT: u32 = 0xffff_ff00;
/// `NFNL_SUBSYS_NFTABLES`, in the header of a batch.
const SUBSYS_NFTABLES: u16 = 10;
/// `NFTNL_UDATA_*`.
pub(super) const UDATA_COMMENT: u8 = 0;
pub(super) const UDATA_SET_KEYBYTEORDER: u8 = 0;
const UDATA_SET_DATABYTEORDER: u8 = 1;
const UDATA_SET_COMMENT: u8 = 7;
/// `enum byteorder` of `nft`.
const HOST_ENDIAN: u32 = 1;
pub(super) const BIG_ENDIAN: u32 = 2;

/// Type number and length in bytes of a key.
pub(super) fn key_type(key: &[Field]) -> (u32, u32) {
    key.iter().fold((0, 0), |(kind, len), field| {
        let (k, l) = match field {
            Field::Addr(Family::V4) => (TYPE_IPADDR, 4),
            Field::Addr(Family::V6) => (TYPE_IP6ADDR, 16),
            Field::Proto => (TYPE_INET_PROTOCOL, 1),
            Field::Port => (TYPE_INET_SERVICE, 2),
            Field::Interface => (TYPE_IFNAME, InterfaceName::SIZE as u32),
        };
        let l = if key.len() > 1 { field_len(l) } else { l };
        (kind << TYPE_BITS | k, len + l)
    })
}

/// Fields of a concatenation fill whole registers.
fn field_len(len: u32) -> u32 {
    len.next_multiple_of(4)
}

fn wrap(family: NetfilterProtoFamily, flags: u16, message: NfTablesMessage) -> Message {
    Request::new(
        flags,
        NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message),
    )
}

pub(super) fn inet(flags: u16, message: NfTablesMessage) -> Message {
    wrap(NetfilterProtoFamily::Inet, flags, message)
}

fn control(message: ControlMessage) -> Message {
    Request::new(
        0,
        NetfilterMessage::new(
            NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, SUBSYS_NFTABLES),
            message,
        ),
    )
}

/// First message of a transaction.
pub(super) fn begin() -> Message {
    control(ControlMessage::BatchBegin)
}

/// Last message of a transaction.
pub(super) fn end() -> Message {
    control(ControlMessage::BatchEnd)
}

pub(super) fn udata(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    // A length is one byte. Longer comments are cut.
    let len = value.len().min(250) as u8;
    out.extend([kind, len]);
    out.extend(value.iter().take(len.into()));
}

pub(super) fn comment(out: &mut Vec<u8>, kind: u8, text: &str) {
    let mut value: Vec<u8> = text.bytes().take(127).collect();
    value.push(0);
    udata(out, kind, &value);
}

pub(super) fn new_table(name: &str) -> Message {
    let mut data = Vec::new();
    comment(
        &mut data,
        UDATA_COMMENT,
        "service proxy: rules are static, elements follow the Services",
    );
    inet(
        NLM_F_CREATE,
        NfTablesMessage::NewTable(TableMessage {
            attributes: vec![
                TableAttribute::Name(name.to_owned()),
                TableAttribute::UserData(data),
            ],
        }),
    )
}

pub(super) fn delete_table(name: &str) -> Message {
    inet(
        0,
        NfTablesMessage::DeleteTable(TableMessage {
            attributes: vec![TableAttribute::Name(name.to_owned())],
        }),
    )
}

/// The kernel's flags for a set.
pub(super) fn set_flags(set: &SetDef) -> SetFlags {
    let mut flags = SetFlags::empty();
    flags.set(SetFlags::Interval, set.interval);
    flags.set(SetFlags::Concat, set.interval && set.key.len() > 1);
    flags.set(SetFlags::Map, set.data.is_some());
    flags
}

/// Type number and length of a map's values.
pub(super) fn data_type(data: Data) -> (u32, u32) {
    match data {
        Data::Verdict => (DATA_VERDICT, 0),
        Data::Mark => (TYPE_MARK, 4),
    }
}

pub(super) fn new_set(table: &str, set: &SetDef, id: u32) -> Message {
    let (kind, len) = key_type(set.key);
    let mut attributes = vec![
        SetAttribute::Table(table.to_owned()),
        SetAttribute::Name(set.name.to_owned()),
        SetAttribute::Flags(set_flags(set)),
        SetAttribute::KeyType(kind),
        SetAttribute::KeyLen(len),
        SetAttribute::Id(id),
    ];
    let mut data = Vec::new();
    // `nft` calls the bytes of a name host order.
    let order = match set.key {
        [Field::Interface] => HOST_ENDIAN,
        _ => BIG_ENDIAN,
    };
    udata(&mut data, UDATA_SET_KEYBYTEORDER, &order.to_ne_bytes());
    if let Some(value) = set.data {
        let (kind, len) = data_type(value);
        attributes.push(SetAttribute::DataType(kind));
        if value == Data::Mark {
            attributes.push(SetAttribute::DataLen(len));
            udata(
                &mut data,
                UDATA_SET_DATABYTEORDER,
                &HOST_ENDIAN.to_ne_bytes(),
            );
        }
    }
    if set.interval && set.key.len() > 1 {
        // For each field: NFTA_LIST_ELEM { NFTA_SET_FIELD_LEN }.
        let fields: Vec<DefaultNla> = set
            .key
            .iter()
            .map(|field| nested(1, &[be32(1, key_type(&[*field]).1)]))
            .collect();
        attributes.push(SetAttribute::Description(vec![SetDescription::Other(
            nested(2, &fields),
        )]));
    }
    comment(&mut data, UDATA_SET_COMMENT, set.comment);
    attributes.push(SetAttribute::UserData(data));
    inet(
        NLM_F_CREATE,
        NfTablesMessage::NewSet(SetMessage { attributes }),
    )
}

pub(super) fn delete_set(table: &str, name: &str) -> Message {
    inet(
        0,
        NfTablesMessage::DeleteSet(SetMessage {
            attributes: vec![
                SetAttribute::Table(table.to_owned()),
                SetAttribute::Name(name.to_owned()),
            ],
        }),
    )
}

/// The kernel's hook number of a base chain, with its priority and type.
pub(super) fn hook_of(chain: &Chain) -> Option<(InetHookNumber, i32, &'static str)> {
    let hook = chain.hook?;
    let number = match hook.point {
        HookPoint::Prerouting => InetHookNumber::PreRouting,
        HookPoint::Input => InetHookNumber::LocalIn,
        HookPoint::Forward => InetHookNumber::Forward,
        HookPoint::Output => InetHookNumber::LocalOut,
        HookPoint::Postrouting => InetHookNumber::PostRouting,
    };
    Some((
        number,
        hook.priority,
        if hook.nat { "nat" } else { "filter" },
    ))
}

pub(super) fn new_chain(table: &str, chain: &Chain) -> Message {
    let mut attributes = vec![
        ChainAttribute::Table(table.to_owned()),
        ChainAttribute::Name(chain.name.to_owned()),
    ];
    if let Some((number, priority, kind)) = hook_of(chain) {
        attributes.push(ChainAttribute::Hook(vec![
            HookAttribute::Number(HookNumber::Inet(number)),
            HookAttribute::Priority(priority.cast_unsigned()),
        ]));
        // NF_ACCEPT
        attributes.push(ChainAttribute::Policy(1));
        attributes.push(ChainAttribute::Type(kind.to_owned()));
    }
    inet(
        NLM_F_CREATE,
        NfTablesMessage::NewChain(ChainMessage { attributes }),
    )
}

pub(super) fn delete_chain(table: &str, name: &str) -> Message {
    inet(
        0,
        NfTablesMessage::DeleteChain(ChainMessage {
            attributes: vec![
                ChainAttribute::Table(table.to_owned()),
                ChainAttribute::Name(name.to_owned()),
            ],
        }),
    )
}

/// Deletes all rules of a chain.
pub(super) fn flush_chain(table: &str, name: &str) -> Message {
    inet(
        0,
        NfTablesMessage::DeleteRule(RuleMessage {
            attributes: vec![
                RuleAttribute::Table(table.to_owned()),
                RuleAttribute::Chain(name.to_owned()),
            ],
        }),
    )
}
