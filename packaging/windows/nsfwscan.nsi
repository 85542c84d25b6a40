; Installer for Windows, for one user or for all. Made with NSIS 3, on any system:
;   makensis -DBUNDLE=dist/nsfwscan-0.1.0-windows-x86_64 -DVERSION=0.1.0 packaging/windows/nsfwscan.nsi
; Not yet run on Windows: it was compiled on Linux and run in Wine (packaging/windows/check).
;
; It copies the bundle, adds it to PATH, adds "Scan with nsfwscan" to the menus of folders and
; pictures, and an entry to the list of installed programs. Uninstalling takes exactly that away.

!ifndef BUNDLE
  !error "say -DBUNDLE=, the folder of the bundle"
!endif
!ifndef VERSION
  !error "say -DVERSION=, for example 0.1.0"
!endif
!ifndef OUTPUT
  !define OUTPUT "nsfwscan-${VERSION}-windows-x86_64-setup.exe"
!endif

; The bundle is for 64 bits, and so is the installer.
Target amd64-unicode
ManifestDPIAware true
SetCompressor /SOLID lzma
RequestExecutionLevel user
Name "nsfwscan ${VERSION}"
OutFile "${OUTPUT}"
BrandingText "nsfwscan ${VERSION}"
InstallDir "$LOCALAPPDATA\Programs\nsfwscan"
InstallDirRegKey HKCU "Software\nsfwscan" "InstallDir"

VIProductVersion "${VERSION}.0"
VIAddVersionKey "ProductName" "nsfwscan"
VIAddVersionKey "ProductVersion" "${VERSION}"
VIAddVersionKey "FileVersion" "${VERSION}"
VIAddVersionKey "FileDescription" "Finds the pictures that are not safe for work"
VIAddVersionKey "LegalCopyright" "The nsfwscan authors, Apache-2.0"

!include MUI2.nsh
!include FileFunc.nsh
!include StrFunc.nsh
${StrStr}
${UnStrRep}

!define UNINSTALL_KEY "Software\Microsoft\Windows\CurrentVersion\Uninstall\nsfwscan"
!define MENU_LABEL "Scan with nsfwscan"

!insertmacro MUI_PAGE_WELCOME
!insertmacro MUI_PAGE_LICENSE "${BUNDLE}/LICENSE"
!insertmacro MUI_PAGE_DIRECTORY
!insertmacro MUI_PAGE_INSTFILES
!insertmacro MUI_UNPAGE_CONFIRM
!insertmacro MUI_UNPAGE_INSTFILES
!insertmacro MUI_LANGUAGE "English"

!macro AddMenu CLASS
  WriteRegStr HKCU "Software\Classes\${CLASS}\shell\nsfwscan" "" "${MENU_LABEL}"
  WriteRegStr HKCU "Software\Classes\${CLASS}\shell\nsfwscan" "Icon" '"$INSTDIR\nsfwscan.exe"'
  ; cmd keeps the window open, so that the result can be read; the outer quotes are cmd's own.
  WriteRegStr HKCU "Software\Classes\${CLASS}\shell\nsfwscan\command" "" \
    'cmd.exe /s /k ""$INSTDIR\nsfwscan.exe" scan -- "%1""'
!macroend

!macro RemoveMenu CLASS
  DeleteRegKey HKCU "Software\Classes\${CLASS}\shell\nsfwscan"
!macroend

Section "nsfwscan" SectionProgram
  SectionIn RO
  ; An earlier version goes first, with its own uninstaller, so that no file of it stays behind.
  ReadRegStr $0 HKCU "${UNINSTALL_KEY}" "InstallLocation"
  ${If} $0 != ""
  ${AndIf} ${FileExists} "$0\uninstall.exe"
    DetailPrint "Removing the version that is installed"
    ExecWait '"$0\uninstall.exe" /S _?=$0' $1
    ${If} $1 != 0
      Abort "The installed version could not be removed. Close every nsfwscan and try again."
    ${EndIf}
  ${EndIf}

  SetOutPath "$INSTDIR"
  File /r "${BUNDLE}/*"
  FileOpen $0 "$INSTDIR\REMOVE.txt" w
  FileWrite $0 "Settings > Apps > Installed apps > nsfwscan > Uninstall$\r$\n"
  FileClose $0
  WriteUninstaller "$INSTDIR\uninstall.exe"

  WriteRegStr HKCU "Software\nsfwscan" "InstallDir" "$INSTDIR"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "DisplayName" "nsfwscan"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "DisplayVersion" "${VERSION}"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "Publisher" "The nsfwscan authors"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "DisplayIcon" '"$INSTDIR\nsfwscan.exe"'
  WriteRegStr HKCU "${UNINSTALL_KEY}" "InstallLocation" "$INSTDIR"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "UninstallString" '"$INSTDIR\uninstall.exe"'
  WriteRegStr HKCU "${UNINSTALL_KEY}" "QuietUninstallString" '"$INSTDIR\uninstall.exe" /S'
  WriteRegDWORD HKCU "${UNINSTALL_KEY}" "NoModify" 1
  WriteRegDWORD HKCU "${UNINSTALL_KEY}" "NoRepair" 1
  ${GetSize} "$INSTDIR" "/S=0K" $0 $1 $2
  IntFmt $0 "0x%08X" $0
  WriteRegDWORD HKCU "${UNINSTALL_KEY}" "EstimatedSize" "$0"

  !insertmacro AddMenu "Directory"
  !insertmacro AddMenu "SystemFileAssociations\image"

  ; PATH is only touched when it can be read whole: NSIS strings end at ${NSIS_MAX_STRLEN}
  ; characters, and writing a shortened PATH back would lose the rest of it.
  ReadRegStr $0 HKCU "Environment" "Path"
  StrLen $1 "$0"
  IntOp $2 ${NSIS_MAX_STRLEN} - 300
  ${If} $1 < $2
    ${StrStr} $3 ";$0;" ";$INSTDIR;"
    ${If} $3 == ""
      ${If} $0 == ""
        WriteRegExpandStr HKCU "Environment" "Path" "$INSTDIR"
      ${Else}
        WriteRegExpandStr HKCU "Environment" "Path" "$0;$INSTDIR"
      ${EndIf}
      SendMessage ${HWND_BROADCAST} ${WM_SETTINGCHANGE} 0 "STR:Environment" /TIMEOUT=5000
    ${EndIf}
  ${Else}
    DetailPrint "PATH is too long to be changed safely; add $INSTDIR to it yourself."
  ${EndIf}
SectionEnd

Section "Uninstall"
  ; What nsfwscan wrote for its user (models, cache, configuration) stays, unless
  ; `nsfwscan self-uninstall --purge` was run before. Pictures are never touched.
  !insertmacro RemoveMenu "Directory"
  !insertmacro RemoveMenu "SystemFileAssociations\image"

  ReadRegStr $0 HKCU "Environment" "Path"
  StrLen $1 "$0"
  IntOp $2 ${NSIS_MAX_STRLEN} - 300
  ${If} $0 == "$INSTDIR"
    DeleteRegValue HKCU "Environment" "Path"
  ${ElseIf} $1 < $2
    ${UnStrRep} $3 "$0" ";$INSTDIR" ""
    ${If} $3 != $0
      WriteRegExpandStr HKCU "Environment" "Path" "$3"
      SendMessage ${HWND_BROADCAST} ${WM_SETTINGCHANGE} 0 "STR:Environment" /TIMEOUT=5000
    ${EndIf}
  ${EndIf}

  ; Names and not the folder as a whole: somebody may have chosen a folder that holds more.
  Delete "$INSTDIR\nsfwscan.exe"
  Delete "$INSTDIR\LICENSE"
  Delete "$INSTDIR\README.md"
  Delete "$INSTDIR\REMOVE.txt"
  Delete "$INSTDIR\THIRD-PARTY-LICENSES.txt"
  Delete "$INSTDIR\sbom.cdx.json"
  RMDir /r "$INSTDIR\_internal"
  RMDir /r "$INSTDIR\models"
  Delete "$INSTDIR\uninstall.exe"
  RMDir "$INSTDIR"
  ${If} ${FileExists} "$INSTDIR\_internal\*"
    SetErrorLevel 2
    Abort "Some files are in use. Close every nsfwscan and try again."
  ${EndIf}

  DeleteRegKey HKCU "${UNINSTALL_KEY}"
  DeleteRegKey HKCU "Software\nsfwscan"
SectionEnd
