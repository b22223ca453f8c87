"""The portal's icons."""
# ruff: noqa: E501 - paths can't be broken

from __future__ import annotations

#: Inner markup of each icon on a 24x24 field, drawn with the text's colour. The four verdicts have
#: four outlines: disc, triangle, halved disc, dashed ring.
ICONS = {
    "benign": '<circle cx="12" cy="12" r="8.5"/><circle cx="12" cy="12" r="3.6" fill="currentColor"/>',
    "malignant": '<path d="M12 3.2 21.6 20H2.4z"/><path d="M12 11.4 15.2 17H8.8z" fill="currentColor"/>',
    "indeterminate": '<circle cx="12" cy="12" r="8.5"/>'
    '<path d="M12 3.5a8.5 8.5 0 0 1 0 17z" fill="currentColor"/>',
    "out_of_domain": '<circle cx="12" cy="12" r="8.5" stroke-dasharray="3.4 3"/><path d="m8.8 8.8 6.4 6.4"/>',
    "uncertain": '<circle cx="12" cy="12" r="8.5"/>'
    '<path d="M9.6 9.6a2.5 2.5 0 1 1 3.6 2.3c-.8.4-1.2.9-1.2 1.8M12 16.6v.1"/>',
    "queued": '<circle cx="12" cy="12" r="8.5"/><path d="M12 7.5V12l3 2"/>',
    "running": '<path d="M20.5 12A8.5 8.5 0 1 1 12 3.5"/>',
    "failed": '<path d="M8 3h8l5 5v8l-5 5H8l-5-5V8z"/><path d="m9 9 6 6m0-6-6 6"/>',
    "empty": '<rect x="4" y="4" width="16" height="16" rx="3" stroke-dasharray="3 3"/>',
    "info": '<circle cx="12" cy="12" r="8.5"/><path d="M12 11v5M12 7.8v.1"/>',
    "success": '<circle cx="12" cy="12" r="8.5"/><path d="m8.4 12.2 2.5 2.5 4.8-5"/>',
    "warning": '<path d="M12 3.2 21.6 20H2.4z"/><path d="M12 9.6v4.6M12 17v.1"/>',
    "error": '<circle cx="12" cy="12" r="8.5"/><path d="m9 9 6 6m0-6-6 6"/>',
    "plus": '<path d="M12 5v14M5 12h14"/>',
    "upload": '<path d="M12 15V4m-4.5 4L12 3.5 16.5 8M4 15v4a1.5 1.5 0 0 0 1.5 1.5h13A1.5 1.5 0 0 0 20 19v-4"/>',
    "download": '<path d="M12 4v11m-4.5-4 4.5 4.5 4.5-4.5M4 15v4a1.5 1.5 0 0 0 1.5 1.5h13A1.5 1.5 0 0 0 20 19v-4"/>',
    "folder": '<path d="M3.5 6.5A1.5 1.5 0 0 1 5 5h4l2 2.5h8A1.5 1.5 0 0 1 20.5 9v9a1.5 1.5 0 0 1-1.5 1.5H5A1.5 1.5 0 0 1 3.5 18z"/>',
    "images": '<rect x="3.5" y="7" width="13.5" height="13.5" rx="2"/><path d="M7 7V5.5a2 2 0 0 1 2-2h9.5a2 2 0 0 1 2 2V15a2 2 0 0 1-2 2H17"/>',
    "search": '<circle cx="10.5" cy="10.5" r="6.5"/><path d="m15.5 15.5 5 5"/>',
    "filter": '<path d="M4 6h16M7 12h10M10 18h4"/>',
    "chart": '<path d="M4 20h16M7 20v-7m5 7V5m5 15v-10"/>',
    "help": '<circle cx="12" cy="12" r="8.5"/><path d="M9.6 9.6a2.5 2.5 0 1 1 3.6 2.3c-.8.4-1.2.9-1.2 1.8M12 16.6v.1"/>',
    "user": '<circle cx="12" cy="8" r="4"/><path d="M4.5 20.5c.8-4 3.7-6 7.5-6s6.7 2 7.5 6"/>',
    "key": '<circle cx="8" cy="15.5" r="4.5"/><path d="m11.3 12.2 8.2-8.2m-4 4 3 3"/>',
    "shield": '<path d="M12 3.5 19.5 6v6c0 4.5-3 7.3-7.5 8.7C7.5 19.3 4.5 16.5 4.5 12V6z"/>',
    "device": '<rect x="3.5" y="5" width="17" height="11" rx="1.5"/><path d="M2.5 19.5h19"/>',
    "settings": '<path d="M4 7h9m4 0h3M4 17h3m4 0h9"/><circle cx="15" cy="7" r="2"/><circle cx="9" cy="17" r="2"/>',
    "sign-out": '<path d="M14 4H6.5A1.5 1.5 0 0 0 5 5.5v13A1.5 1.5 0 0 0 6.5 20H14M10 12h10.5m-3.5-3.5 3.5 3.5-3.5 3.5"/>',
    "edit": '<path d="m4 20 1-4.5L16 4.5l3.5 3.5L8.5 19z"/>',
    "delete": '<path d="M4.5 7h15M9.5 7V4.5h5V7M6.5 7l.8 13h9.4l.8-13M10.2 11v5.5m3.6-5.5v5.5"/>',
    "again": '<path d="M20 12a8 8 0 1 1-2.5-5.8M20 3.5v4.2h-4.2"/>',
    "close": '<path d="m6 6 12 12M18 6 6 18"/>',
    "left": '<path d="m14.5 5-7 7 7 7"/>',
    "right": '<path d="m9.5 5 7 7-7 7"/>',
    "menu": '<path d="M4 7h16M4 12h16M4 17h16"/>',
    "fit": '<path d="M4 9V4h5m6 0h5v5m0 6v5h-5m-6 0H4v-5"/>',
    "zoom-in": '<circle cx="10.5" cy="10.5" r="6.5"/><path d="m15.5 15.5 5 5M10.5 7.5v6m-3-3h6"/>',
    "zoom-out": '<circle cx="10.5" cy="10.5" r="6.5"/><path d="m15.5 15.5 5 5m-13-10h6"/>',
    "grid": '<path d="M4 4h16v16H4zM4 12h16M12 4v16"/>',
    "list": '<path d="M8.5 6H20M8.5 12H20M8.5 18H20M4 6h.1M4 12h.1M4 18h.1"/>',
    "report": '<path d="M6 3.5h8l4.5 4.5v12.5H6zM14 3.5V8h4.5M9 12.5h6M9 16h6"/>',
    "pen": '<path d="M4 20.5h16M6 16.5l.8-3.5L15 4.5l3 3-8.5 8.3z"/>',
    "clock": '<circle cx="12" cy="12" r="8.5"/><path d="M12 7.5V12l3 2"/>',
    "eye": '<path d="M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12z"/><circle cx="12" cy="12" r="2.8"/>',
    "sun": '<circle cx="12" cy="12" r="4"/><path d="M12 2.5v2m0 15v2M2.5 12h2m15 0h2M5.3 5.3l1.4 1.4m10.6 10.6 1.4 1.4m0-13.4-1.4 1.4M6.7 17.3l-1.4 1.4"/>',
    "tag": '<path d="M3.5 12.5v-8a1 1 0 0 1 1-1h8l8 8-9 9z"/><path d="M8 8v.1"/>',
    "home": '<path d="m3.5 11 8.5-7 8.5 7M6 9.5V20h12V9.5"/>',
}
