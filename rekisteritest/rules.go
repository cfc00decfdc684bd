package rekisteritest

// These rules hold for every call.
var (
	noNil = &rule{
		name: "no nil without an error",
		why:  "the registry answers 500 and cannot log a cause; other callers panic",
	}
	noPanic = &rule{
		name: "no panics",
		why:  "the client's connection is closed without an answer; a panic in a goroutine of the backend ends the server",
	}
	inTime = &rule{
		name: "calls return in time",
		why:  "clients give up after 10 seconds, and the hanging requests pile up in the server",
	}
	unchanged = &rule{
		name: "returned values do not change",
		why:  "other requests read them at the same time, and the registry does not encode the same pointer again",
	}

	callRules = []*rule{noPanic, inTime, noNil, unchanged}
)

// rules are all other rules, in the order in which they are checked. Rules about
// first calls come first.
var rules = []rule{
	{
		name: "a done context is never reported as not found",
		why: "clients take a 404 for a deletion: when one caller hangs up or waits too long, " +
			"the provider disappears for everyone who shares the answer",
		check: checkDoneContext,
	},
	{
		name:  "a done context has no lasting effect",
		why:   "one client that hangs up breaks the provider for later requests",
		check: checkAfterDoneContext,
	},
	{
		name:  "concurrent calls are independent",
		why:   "a registry serves many clients at the same time: one of them gets an error, or the answer for another",
		check: checkConcurrency,
	},
	{
		name: "the listing is complete",
		why: "a missing version breaks init for everyone who has it in a lock file; " +
			"an extra version is chosen as the newest, and then cannot be installed; " +
			"warnings tell users that a provider is deprecated",
		check: checkListing,
	},
	{
		name: "versions are canonical",
		why: `one version such as "v1.0.0" makes OpenTofu, and Terraform before 1.13, reject the whole provider, so the registry drops it; ` +
			"and the registry asks for a release by its canonical version only",
		check: checkCanonical,
	},
	{
		name:  "a release matches its listing",
		why:   "clients choose a version by its listing, and fail if its release, platform or protocol is missing",
		check: checkRelease,
	},
	{
		name:  "file names match SHA256SUMS",
		why:   "clients look up a package's sum by its file name, and reject a package without a sum",
		check: checkFilenames,
	},
	{
		name:  "digests match the zips",
		why:   "clients compare the digest with SHA256SUMS and with the zip, and reject the package if they differ",
		check: checkDigests,
	},
	{
		name: "clients accept every signing key",
		why: "one key that a client cannot read fails the installation, even if the next key is the right one; " +
			"a good key is one armored block of its own, without text around it, white space around its lines, or lines over 76 characters; " +
			"Terraform rejects a trust signature that is not HashiCorp's; and people look keys up by their IDs",
		check: checkKeys,
	},
	{
		name:  "a signing key verifies the signature",
		why:   "clients try the keys in order, and reject the package if none of them made the signature of SHA256SUMS",
		check: checkSignatures,
	},
	{
		name:  "every file has a source",
		why:   "an empty URL means that the backend stores the file: without the method Open, the registry cannot serve the package",
		check: checkURLs,
	},
	{
		name: "what does not exist is reported as not found",
		why: "an error that matches fs.ErrNotExist becomes a 404, and clients say that the provider does not exist; " +
			"any other error is an outage, which clients retry and operators are called for; " +
			"without an error, clients get a provider that nobody published",
		check: checkNotFound,
	},

	// Opener.
	{
		name: "Open opens only files of the release",
		why: "the names come from requests: a name that leads elsewhere exposes files that nobody published, " +
			"or files of a provider that the client may not see",
		applies: isOpener,
		check:   checkNames,
	},
	{
		name:    "files have the released content",
		why:     "clients reject a zip with another digest, and a SHA256SUMS that differs from the signed one in any byte",
		applies: isOpener,
		check:   checkContents,
	},
	{
		name: "files can be read in parts",
		why: "the registry seeks to the end of a file to learn its size, and into the middle when a client resumes a download: " +
			"the client gets the wrong length or the wrong bytes",
		applies: isOpener,
		check:   checkSeeking,
	},
	{
		name:    "a file can be opened twice at a time",
		why:     "two clients that download the same zip each get a part of it",
		applies: isOpener,
		check:   checkOpenTwice,
	},
	{
		name: "redirects lead to a file",
		why: "clients follow the URL, and the registry answers HEAD with the size; " +
			"an error that contains the URL puts it into the log, where everyone who reads it can download the file",
		applies: isOpener,
		check:   checkRedirects,
	},

	// Lister.
	{
		name:    "an interrupted provider list ends with an error",
		why:     "callers take a provider that is missing in a list without errors for deleted",
		applies: isLister,
		check:   checkInterruptedList,
	},
	{
		name:    "the provider list stops when the loop does",
		why:     "a range loop panics if its iterator continues after a break",
		applies: isLister,
		check:   checkStoppedList,
	},
	{
		name:    "the provider list is complete",
		why:     "pages and mirrors lack a missing provider, show a repeated one twice, and have broken links to an extra one",
		applies: isLister,
		check:   checkList,
	},
}

func isOpener(t *tester) bool { return t.opener != nil }

func isLister(t *tester) bool { return t.lister != nil }
