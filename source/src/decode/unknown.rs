//! Finds fields that a kind does not have, with the nearest one that it has.
//!
//! An API server refuses or reports such a field; in a file nobody else does, and the opposite of what it says may happen. The
//! types of the kinds know their fields: they are deserialized once more, by a deserializer that compares.

use std::cell::RefCell;

use ferrolb_api::object::Kind;
use ferrolb_api::quote::quoted;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_json::{Error, Value};

use super::{FieldError, pool, proxy_config};
use ferrolb_api::near::nearest;

/// The most fields that are reported of one object.
const MOST: usize = 10;

/// A kind of our own groups, with its specification.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code)] // Only the names of the fields are used.
struct Whole<Spec> {
    api_version: IgnoredAny,
    kind: IgnoredAny,
    metadata: Option<ObjectMeta>,
    spec: Option<Spec>,
    status: Option<IgnoredAny>,
}

/// The fields of an object that its kind does not have.
pub(super) fn fields(value: &Value, kind: Kind) -> Vec<FieldError> {
    match kind {
        Kind::Service => of::<Service>(value),
        Kind::EndpointSlice => of::<EndpointSlice>(value),
        Kind::Node => of::<Node>(value),
        Kind::Namespace => of::<Namespace>(value),
        Kind::ServiceCidr => of::<ServiceCIDR>(value),
        Kind::Pod => of::<Pod>(value),
        Kind::IpAddressPool => of::<Whole<pool::PoolSpec>>(value),
        Kind::L2Advertisement => of::<Whole<pool::AdvertisementSpec>>(value),
        Kind::LegacyConfig => of::<ConfigMap>(value),
        Kind::ProxyConfig => of::<proxy_config::Raw>(value),
    }
}

fn of<'v, T: Deserialize<'v>>(value: &'v Value) -> Vec<FieldError> {
    let found = Found::default();
    // A value of the wrong type ends this early; decoding reports it.
    let _ = T::deserialize(Walk {
        value,
        found: &found,
    });
    found.unknown.into_inner()
}

/// Where the walk is, and what it has found.
#[derive(Default)]
struct Found<'v> {
    path: RefCell<Vec<Step<'v>>>,
    unknown: RefCell<Vec<FieldError>>,
}

impl<'v> Found<'v> {
    /// Does something one step deeper.
    fn within<T>(&self, step: Step<'v>, walk: impl FnOnce() -> T) -> T {
        self.path.borrow_mut().push(step);
        let result = walk();
        self.path.borrow_mut().pop();
        result
    }

    fn unknown(&self, name: &str, known: &[&str]) {
        let mut unknown = self.unknown.borrow_mut();
        if unknown.len() == MOST {
            return;
        }
        let path: String = self.path.borrow().iter().map(Step::text).collect();
        let path = path + &Step::Field(name).text();
        let message = match nearest(name, known) {
            Some(near) => format!("there is no such field: did you mean {near}?"),
            None => format!(
                "there is no such field: those that exist are {}",
                known.join(", ")
            ),
        };
        unknown.push(FieldError::new(path.trim_start_matches('.'), message));
    }
}

/// A step of a path. It becomes text only where something is reported.
enum Step<'v> {
    Field(&'v str),
    Item(usize),
}

impl Step<'_> {
    /// As part of a path; a name that is not a plain word is quoted.
    fn text(&self) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_/.".contains(c);
        match self {
            Self::Item(i) => format!("[{i}]"),
            Self::Field(name) if name.chars().all(plain) => format!(".{name}"),
            Self::Field(name) => format!(".{}", quoted(name)),
        }
    }
}

#[derive(Clone, Copy)]
struct Walk<'v, 'f> {
    value: &'v Value,
    found: &'f Found<'v>,
}

impl<'v> Deserializer<'v> for Walk<'v, '_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Array(items) => visitor.visit_seq(Items {
                items: items.iter().enumerate(),
                found: self.found,
            }),
            Value::Object(fields) => visitor.visit_map(Fields {
                fields: fields.iter(),
                value: None,
                found: self.found,
            }),
            scalar => scalar.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'v>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        for name in self.value.as_object().into_iter().flat_map(|o| o.keys()) {
            if !fields.contains(&name.as_str()) {
                self.found.unknown(name, fields);
            }
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'v>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'v>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.value.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        <V: Visitor<'v>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct
        map identifier ignored_any
    }
}

struct Items<'v, 'f> {
    items: std::iter::Enumerate<std::slice::Iter<'v, Value>>,
    found: &'f Found<'v>,
}

impl<'v> SeqAccess<'v> for Items<'v, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'v>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some((i, value)) = self.items.next() else {
            return Ok(None);
        };
        let found = self.found;
        let deserialize = || seed.deserialize(Walk { value, found });
        found.within(Step::Item(i), deserialize).map(Some)
    }
}

struct Fields<'v, 'f> {
    fields: serde_json::map::Iter<'v>,
    value: Option<(&'v str, &'v Value)>,
    found: &'f Found<'v>,
}

impl<'v> MapAccess<'v> for Fields<'v, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'v>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        self.value = self
            .fields
            .next()
            .map(|(name, value)| (name.as_str(), value));
        let Some((name, _)) = self.value else {
            return Ok(None);
        };
        let name: StrDeserializer<'_, Error> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'v>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let (name, value) = self.value.take().unwrap_or(("", &Value::Null));
        let found = self.found;
        let deserialize = || seed.deserialize(Walk { value, found });
        found.within(Step::Field(name), deserialize)
    }
}
