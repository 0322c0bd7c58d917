package mix

import (
	"os/user"
	"strconv"

	"postern.email/kit/errs"
)

// trusted gives the numbers of the users in host.trusted_users.
func (c Config) trusted() (all []int, err error) {
	for _, name := range c.Host.TrustedUsers {
		n, err := strconv.Atoi(name)
		if err != nil {
			u, err := user.Lookup(name)
			if err != nil {
				return nil, errs.E("role/mix.trusted", errs.Invalid, "host.trusted_users: there is no user "+name, err)
			}
			if n, err = strconv.Atoi(u.Uid); err != nil {
				return nil, errs.E("role/mix.trusted", errs.Unsupported, "host.trusted_users: the user "+name+" has no number", err)
			}
		}
		all = append(all, n)
	}
	return all, nil
}
