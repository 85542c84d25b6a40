-- What the app does: it opens a Terminal window and scans there what was dropped on it, opened with
-- it, or chosen. `quoted form` makes any name safe for the shell.

on run
	set chosen to choose folder with prompt "Which folder should be scanned?" default location (path to pictures folder)
	scan({chosen})
end run

on open chosen
	scan(chosen)
end open

on scan(chosen)
	set command to quoted form of (POSIX path of (path to me) & "Contents/Resources/nsfwscan/nsfwscan") & " scan --"
	repeat with one in chosen
		set command to command & " " & quoted form of POSIX path of one
	end repeat
	tell application "Terminal"
		activate
		do script command
	end tell
end scan
