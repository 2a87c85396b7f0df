// The program writes contacts of HubSpot through GORM: creates, updates, upserts and deletes.
package main

import (
	"fmt"
	"log"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// Contact is a row of hubspot.contacts.
type Contact struct {
	ID        int64 `gorm:"primaryKey"`
	Email     string
	Firstname string
	Lastname  string
}

// TableName implements gorm's Tabler.
func (Contact) TableName() string { return "hubspot.contacts" }

func main() {
	for _, simple := range []bool{false, true} {
		if err := write(simple); err != nil {
			log.Fatal(err)
		}
	}
}

func write(simple bool) error {
	name := "extended"
	if simple {
		name = "simple"
	}
	db, err := gorm.Open(postgres.New(postgres.Config{DSN: "", PreferSimpleProtocol: simple}), &gorm.Config{})
	if err != nil {
		return err
	}
	word := name + "-orm"
	email := word + "@example.com"
	one := Contact{Email: email, Firstname: "Created"}
	many := []Contact{{Email: word + "0@example.com"}, {Email: word + "1@example.com"}}
	if err := db.Omit("Lastname").Create(&one).Error; err != nil {
		return err
	}
	if err := db.Omit("Firstname", "Lastname").Create(&many).Error; err != nil {
		return err
	}
	if one.ID <= 0 || many[0].ID <= 0 || many[1].ID <= 0 {
		return fmt.Errorf("created %+v, %+v", one, many)
	}
	fmt.Println("ok create with", name)

	var found Contact
	if err := db.Model(&one).Update("lastname", "Updated").Error; err != nil {
		return err
	}
	if err := db.First(&found, "email = ?", email).Error; err != nil {
		return err
	}
	if found.ID != one.ID || found.Lastname != "Updated" {
		return fmt.Errorf("updated %+v", found)
	}
	err = db.Transaction(func(tx *gorm.DB) error {
		return tx.Model(&Contact{}).Where("email like ?", word+"_@%").Update("lastname", "All").Error
	})
	if err != nil {
		return err
	}
	fmt.Println("ok update with", name)

	again := Contact{Email: email, Firstname: "Upserted"}
	err = db.Omit("Lastname").Clauses(clause.OnConflict{
		Columns: []clause.Column{{Name: "email"}}, DoUpdates: clause.AssignmentColumns([]string{"firstname"}),
	}).Create(&again).Error
	if err != nil {
		return err
	}
	if again.ID != one.ID {
		return fmt.Errorf("upserted %+v", again)
	}
	fmt.Println("ok upsert with", name)

	if err := db.Delete(&many[0]).Error; err != nil {
		return err
	}
	fmt.Println("ok delete with", name)
	return nil
}
