//! Any object that a source delivers, and its kind.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ObjectKey;
use crate::crd::{IpAddressPool, L2Advertisement};
use crate::legacy::LegacyConfig;
use crate::proxy_config::ProxyConfig;
use crate::view::{EndpointSlice, Namespace, Node, Pod, Service, ServiceCidr};

/// The kinds that ferrolb reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// v1 Service.
    Service,
    /// discovery.k8s.io/v1 EndpointSlice.
    EndpointSlice,
    /// v1 Node.
    Node,
    /// v1 Namespace.
    Namespace,
    /// networking.k8s.io/v1 ServiceCIDR.
    ServiceCidr,
    /// v1 Pod.
    Pod,
    /// metallb.io/v1beta1 IPAddressPool.
    #[serde(rename = "IPAddressPool")]
    IpAddressPool,
    /// metallb.io/v1beta1 L2Advertisement.
    L2Advertisement,
    /// v1 ConfigMap with MetalLB 0.9's `config` key.
    #[serde(rename = "ConfigMap")]
    LegacyConfig,
    /// kubeproxy.config.k8s.io/v1alpha1 KubeProxyConfiguration.
    #[serde(rename = "KubeProxyConfiguration")]
    ProxyConfig,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Node => "Node",
            Self::Namespace => "Namespace",
            Self::ServiceCidr => "ServiceCIDR",
            Self::Pod => "Pod",
            Self::IpAddressPool => "IPAddressPool",
            Self::L2Advertisement => "L2Advertisement",
            Self::LegacyConfig => "ConfigMap",
            Self::ProxyConfig => "KubeProxyConfiguration",
        })
    }
}

/// An object of any kind that ferrolb reads. Kinds with many objects are reference-counted, so that all users share one copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// A Service.
    Service(Arc<Service>),
    /// An EndpointSlice.
    EndpointSlice(Arc<EndpointSlice>),
    /// A Node.
    Node(Arc<Node>),
    /// A Namespace.
    Namespace(Arc<Namespace>),
    /// A range of ClusterIPs.
    ServiceCidr(Arc<ServiceCidr>),
    /// A Pod.
    Pod(Arc<Pod>),
    /// An address pool.
    IpAddressPool(Arc<IpAddressPool>),
    /// A layer 2 advertisement.
    L2Advertisement(Arc<L2Advertisement>),
    /// MetalLB 0.9's configuration.
    LegacyConfig(Arc<LegacyConfig>),
    /// A KubeProxyConfiguration.
    ProxyConfig(Box<ProxyConfig>),
}

impl Object {
    /// The kind of the object.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Service(_) => Kind::Service,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::Node(_) => Kind::Node,
            Self::Namespace(_) => Kind::Namespace,
            Self::ServiceCidr(_) => Kind::ServiceCidr,
            Self::Pod(_) => Kind::Pod,
            Self::IpAddressPool(_) => Kind::IpAddressPool,
            Self::L2Advertisement(_) => Kind::L2Advertisement,
            Self::LegacyConfig(_) => Kind::LegacyConfig,
            Self::ProxyConfig(_) => Kind::ProxyConfig,
        }
    }

    /// The identity of the object within its kind.
    pub fn key(&self) -> ObjectKey {
        match self {
            Self::Service(o) => o.key.clone(),
            Self::EndpointSlice(o) => o.key.clone(),
            Self::Node(o) => ObjectKey::new("", o.name.clone()),
            Self::Namespace(o) => ObjectKey::new("", o.name.clone()),
            Self::ServiceCidr(o) => ObjectKey::new("", o.name.clone()),
            Self::Pod(o) => o.key.clone(),
            Self::IpAddressPool(o) => o.key.clone(),
            Self::L2Advertisement(o) => o.key.clone(),
            Self::LegacyConfig(o) => o.key.clone(),
            Self::ProxyConfig(_) => ObjectKey::new("", "kube-proxy"),
        }
    }
}
