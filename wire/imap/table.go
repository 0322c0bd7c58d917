package imap

import "strconv"

// commands is the table of all commands: the states they are allowed in and what
// runs them.
var commands = map[string]handler{
	"CAPABILITY":   {anyState, false, cmdCapability},
	"NOOP":         {anyState, false, cmdNoop},
	"LOGOUT":       {anyState, false, cmdLogout},
	"ID":           {anyState, false, cmdID},
	"STARTTLS":     {notAuth, false, cmdStartTLS},
	"LOGIN":        {notAuth, false, cmdLogin},
	"AUTHENTICATE": {notAuth, false, cmdAuthenticate},

	"ENABLE":       {loggedIn, false, cmdEnable},
	"COMPRESS":     {loggedIn, false, cmdCompress},
	"NAMESPACE":    {loggedIn, false, cmdNamespace},
	"NOTIFY":       {loggedIn, false, cmdNotify},
	"IDLE":         {loggedIn, false, cmdIdle},
	"SELECT":       {loggedIn, false, cmdSelect},
	"EXAMINE":      {loggedIn, false, cmdExamine},
	"CREATE":       {loggedIn, false, cmdCreate},
	"DELETE":       {loggedIn, false, cmdDelete},
	"RENAME":       {loggedIn, false, cmdRename},
	"SUBSCRIBE":    {loggedIn, false, cmdSubscribe},
	"UNSUBSCRIBE":  {loggedIn, false, cmdUnsubscribe},
	"LIST":         {loggedIn, false, cmdList},
	"LSUB":         {loggedIn, false, cmdLsub},
	"STATUS":       {loggedIn, false, cmdStatus},
	"APPEND":       {loggedIn, false, cmdAppend},
	"GETQUOTA":     {loggedIn, false, cmdGetQuota},
	"GETQUOTAROOT": {loggedIn, false, cmdGetQuotaRoot},
	"SETQUOTA":     {loggedIn, false, cmdSetQuota},
	"GETMETADATA":  {loggedIn, false, cmdGetMetadata},
	"SETMETADATA":  {loggedIn, false, cmdSetMetadata},

	"CHECK":       {inMailbox, false, cmdNoop},
	"CLOSE":       {inMailbox, false, cmdClose},
	"UNSELECT":    {inMailbox, false, cmdUnselect},
	"EXPUNGE":     {inMailbox, false, cmdExpunge},
	"UID EXPUNGE": {inMailbox, false, cmdUIDExpunge},
	"SEARCH":      {inMailbox, true, cmdSearch},
	"UID SEARCH":  {inMailbox, false, cmdUIDSearch},
	"SORT":        {inMailbox, true, cmdSort},
	"UID SORT":    {inMailbox, false, cmdUIDSort},
	"THREAD":      {inMailbox, true, cmdThread},
	"UID THREAD":  {inMailbox, false, cmdUIDThread},
	"FETCH":       {inMailbox, true, cmdFetch},
	"UID FETCH":   {inMailbox, false, cmdUIDFetch},
	"STORE":       {inMailbox, true, cmdStore},
	"UID STORE":   {inMailbox, false, cmdUIDStore},
	"COPY":        {inMailbox, false, cmdCopy},
	"UID COPY":    {inMailbox, false, cmdUIDCopy},
	"MOVE":        {inMailbox, false, cmdMove},
	"UID MOVE":    {inMailbox, false, cmdUIDMove},
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
