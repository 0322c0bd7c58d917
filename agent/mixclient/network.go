package mixclient

import (
	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
)

// Relay is the node ID of the own relay.
func (c *Client) Relay() packet.ID { return c.profile.node }

// Network is the network that the relay is in, as it said at registration.
func (c *Client) Network() *directory.Network { return c.profile.network }

// Relay is the node ID of the relay.
func (p *Profile) Relay() packet.ID { return p.node }

// Members gives the network of the relay.
func (p *Profile) Members() *directory.Network { return p.network }
