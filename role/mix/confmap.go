package mix

// confOption says what becomes of one option of mixminiond.conf.
type confOption struct {
	read     reader // what mixminiond takes as its value
	many     bool   // may be given several times
	to       string // our option that it sets
	always   string // it is so without any option: what mixminiond needed to be told
	replaced string // why there is none, and what is there instead; the value is read all the same
	refused  string // why a file that sets it cannot be used
}

// Texts that several options share.
const (
	noSMTP      = "an exit to all addresses is at a relay, which signs mail and has a page where recipients block themselves: exit.enabled of its configuration"
	noMixmaster = "there is no way through Mixmaster; Delivery/MBOX can hand mail to any program with SendmailCommand"
	fixedLoops  = "loops through the network measure it in place of pings, at the rate that the authorities set for all nodes alike, and the authorities keep the results"
)

// confOptions are all sections and options of mixminiond 0.0.8 (mixminiond.conf(5), and what
// its program reads besides).
var confOptions = map[string]map[string]confOption{
	"Host": {
		"ShredCommand":  {read: asText, replaced: "files are overwritten with zeros, synced and removed by the program itself, and what must be beyond reach is sealed besides"},
		"EntropySource": {read: asFile, replaced: "random numbers come from the kernel (getrandom(2))"},
		"FileParanoia":  {read: asBoolean, to: "host.file_paranoia"},
		"TrustedUser":   {read: asText, many: true, to: "host.trusted_users"},
	},
	"Server": {
		"BaseDir":             {read: asFile, to: "server.base_dir"},
		"Homedir":             {read: asFile, to: "server.base_dir"},
		"LogFile":             {read: asFile, to: "log.file"},
		"StatsFile":           {read: asFile, to: "server.stats_file"},
		"KeyDir":              {read: asFile, to: "server.key_dir"},
		"WorkDir":             {read: asFile, to: "server.work_dir"},
		"QueueDir":            {read: asFile, to: "server.queue_dir"},
		"PidFile":             {read: asFile, to: "server.pid_file"},
		"LogLevel":            {read: asLevel, to: "log.level"},
		"EchoMessages":        {read: asBoolean, to: "log.echo"},
		"Daemon":              {read: asBoolean, to: "server.daemon"},
		"LogStats":            {read: asBoolean, to: "server.stats"},
		"StatsInterval":       {read: asInterval, to: "server.stats_interval"},
		"EncryptIdentityKey":  {read: asBoolean, to: "keys.encrypt"},
		"EncryptPrivateKey":   {read: asBoolean, to: "keys.encrypt_all"},
		"IdentityKeyBits":     {read: asNumber, replaced: "the identity is an Ed25519 and an ML-DSA-65 key, which have one size"},
		"PublicKeyLifetime":   {read: asInterval, to: "keys.lifetime"},
		"PublicKeyOverlap":    {read: asInterval, to: "keys.overlap"},
		"PublicKeySloppiness": {read: asInterval, replaced: "PublicKeyOverlap says how long an old key works; this is its name before 0.0.4"},
		"Mode":                {read: asMode, always: "mixminiond did not look at it; here mode says what the node does, and follows from the sections under Delivery"},
		"Nickname":            {read: asNickname, to: "nickname"},
		"Contact-Email":       {read: asEmail, to: "contact_email"},
		"Contact-Fingerprint": {read: asText, to: "contact_fingerprint"},
		"Comments":            {read: asText, to: "comments"},
		"ModulePath":          {read: asText, replaced: "there are no modules to be found"},
		"Module":              {read: asText, many: true, refused: "modules in Python cannot be loaded; Delivery/MBOX can hand mail to any program with SendmailCommand"},
		"MixAlgorithm":        {read: asAlgorithm, to: "mixing.algorithm"},
		"MixInterval":         {read: asInterval, to: "mixing.interval"},
		"MixPoolRate":         {read: asPercent, to: "mixing.pool_rate"},
		"MixPoolMinSize":      {read: asNumber, to: "mixing.pool_min_size"},
		"Timeout":             {read: asInterval, to: "server.timeout"},
		"MaxBandwidth":        {read: asSize, to: "server.max_bandwidth"},
		"MaxBandwidthSpike":   {read: asSize, to: "server.max_bandwidth_spike"},
	},
	"Pinging": {
		"Enabled":             {read: asBoolean, replaced: fixedLoops},
		"RecomputeInterval":   {read: asInterval, replaced: fixedLoops},
		"ServerPingPeriod":    {read: asInterval, replaced: fixedLoops},
		"ServerProbePeriod":   {read: asInterval, replaced: fixedLoops},
		"ChainPingPeriod":     {read: asInterval, replaced: fixedLoops},
		"DullChainPingPeriod": {read: asInterval, replaced: fixedLoops},
		"RetainData":          {read: asInterval, replaced: fixedLoops},
		"RetainResults":       {read: asInterval, replaced: fixedLoops},
	},
	"DirectoryServers": {
		"ServerURL":  {read: asText, many: true, replaced: "a directory of Type III cannot be used; the network file (network) names the authorities, and directory.urls where theirs can be fetched by HTTP"},
		"PublishURL": {read: asText, many: true, replaced: "descriptors go to the authorities that the network file names"},
		"Publish":    {read: asBoolean, to: "directory.publish"},
		"MaxSkew":    {read: asInterval, replaced: "clocks may differ by 10 minutes, for all members of a network"},
	},
	"Incoming/MMTP": {
		"Enabled":    {read: asEnabled, always: "a node listens"},
		"IP":         {read: asIP, to: "incoming.addresses"},
		"Hostname":   {read: asHost, to: "incoming.addresses"},
		"Port":       {read: asPort, to: "incoming.addresses"},
		"ListenIP":   {read: asIP, to: "incoming.listen"},
		"ListenPort": {read: asListenPort, to: "incoming.listen"},
		"ListenIP6":  {read: asIP6, to: "incoming.listen"},
		"Allow":      {read: asRule, many: true, to: "incoming.allow"},
		"Deny":       {read: asRule, many: true, to: "incoming.deny"},
	},
	"Outgoing/MMTP": {
		"Enabled":        {read: asEnabled, always: "a node sends packets on"},
		"Retry":          {read: asSchedule, to: "outgoing.retry"},
		"MaxConnections": {read: asNumber, replaced: "a connection is kept to each node of the next layer, of which there are as many as the directory lists; incoming ones are bounded by server.connections"},
		"Allow":          {read: asRule, many: true, to: "outgoing.allow"},
		"Deny":           {read: asRule, many: true, to: "outgoing.deny"},
	},
	"Delivery/MBOX": {
		"Enabled":          {read: asBoolean, to: "mbox.enabled"},
		"AddressFile":      {read: asFile, to: "mbox.address_file"},
		"ReturnAddress":    {read: asEmail, to: "mbox.return_address"},
		"RemoveContact":    {read: asEmail, to: "mbox.remove_contact"},
		"SMTPServer":       {read: asText, to: "mbox.smtp_server"},
		"SendmailCommand":  {read: asText, to: "mbox.sendmail_command"},
		"Retry":            {read: asSchedule, to: "mbox.retry"},
		"Advertise":        {read: asBoolean, to: "mbox.advertise"},
		"MaximumSize":      {read: asMaximum, to: "mbox.maximum_size"},
		"AllowFromAddress": {read: asBoolean, to: "mbox.allow_from_address"},
		"SubjectLine":      {read: asText, to: "mbox.subject_line"},
		"FromTag":          {read: asText, to: "mbox.from_tag"},
		"X-Abuse":          {read: asText, to: "mbox.x_abuse"},
		"Comments":         {read: asText, to: "mbox.comments"},
		"Message":          {read: asText, to: "mbox.message"},
	},
	"Delivery/SMTP": {
		"Enabled":          {read: asBoolean, to: "smtp.enabled"},
		"BlacklistFile":    {read: asFile, replaced: noSMTP},
		"ReturnAddress":    {read: asEmail, replaced: noSMTP},
		"SMTPServer":       {read: asText, replaced: noSMTP},
		"SendmailCommand":  {read: asText, replaced: noSMTP},
		"Retry":            {read: asSchedule, replaced: noSMTP},
		"Advertise":        {read: asBoolean, replaced: noSMTP},
		"MaximumSize":      {read: asMaximum, replaced: noSMTP},
		"AllowFromAddress": {read: asBoolean, replaced: noSMTP},
		"SubjectLine":      {read: asText, replaced: noSMTP},
		"FromTag":          {read: asText, replaced: noSMTP},
		"X-Abuse":          {read: asText, replaced: noSMTP},
		"Comments":         {read: asText, replaced: noSMTP},
		"Message":          {read: asText, replaced: noSMTP},
	},
	"Delivery/SMTP-Via-Mixmaster": {
		"Enabled":          {read: asBoolean, replaced: noMixmaster},
		"MixCommand":       {read: asText, replaced: noMixmaster},
		"Server":           {read: asText, replaced: noMixmaster},
		"Retry":            {read: asSchedule, replaced: noMixmaster},
		"Advertise":        {read: asBoolean, replaced: noMixmaster},
		"MaximumSize":      {read: asMaximum, replaced: noMixmaster},
		"AllowFromAddress": {read: asBoolean, replaced: noMixmaster},
		"ReturnAddress":    {read: asEmail, replaced: noMixmaster},
		"SubjectLine":      {read: asText, replaced: noMixmaster},
		"FromTag":          {read: asText, replaced: noMixmaster},
		"X-Abuse":          {read: asText, replaced: noMixmaster},
		"Comments":         {read: asText, replaced: noMixmaster},
		"Message":          {read: asText, replaced: noMixmaster},
	},
	"Delivery/Fragmented": {
		"Enabled":         {read: asBoolean, to: "fragmented.enabled"},
		"MaximumSize":     {read: asMaximum, to: "fragmented.maximum_size"},
		"MaximumInterval": {read: asInterval, to: "fragmented.maximum_interval"},
	},
}

// confNeeded are options without which mixminiond does not start.
var confNeeded = []struct{ section, key string }{
	{"Server", "Nickname"}, {"Server", "Contact-Email"}, {"Server", "Mode"},
	{"Incoming/MMTP", "Enabled"}, {"Outgoing/MMTP", "Enabled"},
	{"Delivery/MBOX", "Enabled"}, {"Delivery/SMTP", "Enabled"}, {"Delivery/Fragmented", "Enabled"}, {"Delivery/Fragmented", "MaximumSize"},
}
