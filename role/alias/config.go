package alias

// Config is the configuration of an alias server: IncognitoMail's file, section by section, and one
// section of ours. Every field is documented by its tags: docs/alias-config.md and `postern alias
// config` come from there. A field has an effect, and a test that shows it (effects_test.go).
type Config struct {
	General struct {
		MailSystem    string `toml:"MailSystem" default:"postfix" doc:"The mail server beside which this one runs. There is postfix only."`
		UnixSockPath  string `toml:"UnixSockPath" default:"/tmp/incognitomail.sock" doc:"The socket over which commands reach the running server. Only the server's own user may connect."`
		LockFilePath  string `toml:"LockFilePath" default:"/var/lock/incognitomail.lock" doc:"The file that keeps a second server from running. It holds the number of the process."`
		ListenPath    string `toml:"ListenPath" default:"/incognitomail" doc:"Where on the HTTP server the WebSocket is."`
		ListenAddress string `toml:"ListenAddress" default:":8080" check:"listen" doc:"Where the HTTP server listens, host:port. Without a host on all addresses. off: nowhere."`
		TLSCertFile   string `toml:"TLSCertFile" default:"" doc:"The certificate, with the intermediate ones behind it (PEM). It is read again when it changes. With TLSKeyFile the server speaks HTTPS; without, programs of this machine only are served, see Postern.PlainHTTP."`
		TLSKeyFile    string `toml:"TLSKeyFile" default:"" doc:"The private key of TLSCertFile (PEM)."`
	} `toml:"General"`

	Persistence struct {
		Type         string `toml:"Type" default:"boltdb" doc:"How IncognitoMail kept its data. There is boltdb only; here it says of which form the file at DatabasePath is."`
		DatabasePath string `toml:"DatabasePath" default:"incognitomail.db" doc:"IncognitoMail's database. If it is there, its accounts and handles are taken over at the first start; it is never written. A relative name begins at the working directory."`
	} `toml:"Persistence"`

	PostfixConfig struct {
		Domain      string `toml:"Domain" default:"" doc:"The domain of the aliases, such as @example.org. Several are separated by commas, the first one is the default. Needed."`
		MapFilePath string `toml:"MapFilePath" default:"" doc:"The canonical or virtual alias map of Postfix that gets a line for each alias. Lines of others in it stay. Needed."`
	} `toml:"PostfixConfig"`

	Postern struct {
		StateDir      string   `toml:"StateDir" default:"" doc:"The directory of everything that is kept. Empty: DatabasePath with .postern behind it."`
		KeyFile       string   `toml:"KeyFile" default:"" doc:"The file of the key that seals what is kept. Empty: node.key in StateDir. Put it on another disk, and a seized one shows less."`
		PostfixDir    string   `toml:"PostfixDir" default:"" doc:"The directory of Postfix's main.cf. Empty: the usual one."`
		MapType       string   `toml:"MapType" default:"" oneof:"btree cdb hash lmdb" doc:"The type of the map. Empty: as main.cf names it, else Postfix's default_database_type."`
		HandleStyle   string   `toml:"HandleStyle" default:"random" oneof:"random words site" doc:"How new handles look: 18 letters and digits, two words and digits, or the name of the site and digits."`
		CustomHandles bool     `toml:"CustomHandles" default:"false" doc:"Owners may choose handles. Then an owner can take the address of a mailbox that Postfix has in the same domain, unless a line of the map keeps it: only for domains that hold nothing but aliases."`
		MaxHandles    int      `toml:"MaxHandles" default:"10000" min:"1" max:"1000000" doc:"How many aliases an account may have."`
		PlainHTTP     bool     `toml:"PlainHTTP" default:"false" doc:"Without a certificate, serve others than programs of this machine, too. Secrets then cross that network as they are: only where a proxy in front speaks HTTPS, or nobody listens."`
		Origins       []string `toml:"Origins" default:"" max:"64" doc:"The origins whose scripts may ask, such as moz-extension://… A * stands for any characters. Empty: all, since each installed add-on has one of its own."`
		PublicURL     string   `toml:"PublicURL" default:"" check:"url" doc:"Where the pages are found from outside, for the links that set add-ons up. Empty: https://, the first domain and the port."`
		LogLevel      string   `toml:"LogLevel" default:"info" oneof:"debug info warn error" doc:"How much is logged. debug shows addresses."`
	} `toml:"Postern"`
}
