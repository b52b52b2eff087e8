"""The review page: people choose among a nodule's mattes, or discard it; and the clinicians' study on the same page."""
