// Package migratetest makes databases of other programs, for tests of what reads them.
package migratetest

import (
	"errors"
	"time"

	"go.etcd.io/bbolt"
)

// IncognitoMail writes a database as IncognitoMail lays it out.
type IncognitoMail struct{ db *bbolt.DB }

// NewIncognitoMail makes one in a file that is not there yet, or opens it. Close it before anybody reads it.
func NewIncognitoMail(path string) (*IncognitoMail, error) {
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range []string{"targets", "accounts", "handles"} {
			if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
				return err
			}
		}
		return nil
	})
	return &IncognitoMail{db}, err
}

// Close closes it.
func (d *IncognitoMail) Close() error { return d.db.Close() }

// put writes into a bucket.
func put(tx *bbolt.Tx, bucket, key string, value []byte) error {
	b := tx.Bucket([]byte(bucket))
	if b == nil {
		return errors.New("there is no bucket " + bucket)
	}
	return b.Put([]byte(key), value)
}

// Put writes a value, for what IncognitoMail itself does not do.
func (d *IncognitoMail) Put(bucket, key string, value []byte) error {
	return d.db.Update(func(tx *bbolt.Tx) error {
		if _, err := tx.CreateBucketIfNotExists([]byte(bucket)); err != nil {
			return err
		}
		return put(tx, bucket, key, value)
	})
}

// Account makes an account.
func (d *IncognitoMail) Account(secret, target string, at time.Time) error {
	return d.db.Update(func(tx *bbolt.Tx) error {
		if _, err := tx.CreateBucket([]byte(secret)); err != nil {
			return err
		}
		when, err := at.GobEncode()
		return errors.Join(err, put(tx, "targets", secret, []byte(target)), put(tx, "accounts", secret, when))
	})
}

// Handle makes a handle of an account.
func (d *IncognitoMail) Handle(secret, handle string, at time.Time) error {
	return d.db.Update(func(tx *bbolt.Tx) error {
		when, err := at.GobEncode()
		return errors.Join(err, put(tx, secret, handle, when), put(tx, "handles", handle, when))
	})
}

// DeleteAccount deletes an account: its handles stay in the bucket of all handles, as there.
func (d *IncognitoMail) DeleteAccount(secret string) error {
	return d.db.Update(func(tx *bbolt.Tx) error {
		return errors.Join(tx.DeleteBucket([]byte(secret)), tx.Bucket([]byte("targets")).Delete([]byte(secret)), tx.Bucket([]byte("accounts")).Delete([]byte(secret)))
	})
}
